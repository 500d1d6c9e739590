//! How RocksDB is set up, and why.

use keelson_store::engine::Family;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, LogLevel, LruCacheOptions,
    WriteBufferManager,
};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use crate::history::HistoryFilterFactory;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// What the engine may take. The defaults suit a member with a million small keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of memory for all of it: blocks with their indexes and filters, and what waits to be flushed, which
    /// displaces blocks. 48 MiB.
    pub cache_bytes: usize,
    /// Of them, bytes for what waits to be flushed. At half of it a flush begins by itself; the other half takes
    /// what is written meanwhile; at all of it, writes stall until the flush has ended. 24 MiB.
    pub write_buffer_bytes: usize,
    /// Threads that flush and compact, at least 2. 2: compaction that takes every core delays the requests.
    pub background_threads: u32,
    /// Files to hold open. Those beyond are opened when they are read. 512.
    pub open_files_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cache_bytes: 48 * MIB,
            write_buffer_bytes: 24 * MIB,
            background_threads: 2,
            open_files_max: 512,
        }
    }
}

/// RocksDB's options, and the caches that they refer to.
pub(crate) struct Setup {
    pub database: rocksdb::Options,
    pub families: Vec<ColumnFamilyDescriptor>,
    pub cache: Cache,
    pub write_buffers: WriteBufferManager,
}

impl Setup {
    pub fn new(
        options: &Options,
        create: bool,
        history_floor: &Arc<AtomicI64>,
    ) -> Result<Setup, rocksdb::Error> {
        let mut lru = LruCacheOptions::default();
        lru.set_capacity(options.cache_bytes);
        // Few shards: one holds the blocks of a scan without evicting what it just read, and two cores contend little.
        lru.set_num_shard_bits(3);
        let cache = Cache::new_lru_cache_opts(&lru);
        // Stalling is what bounds the memory: without it, writes outrun a slow disk.
        let write_buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
            options.write_buffer_bytes,
            true,
            cache.clone(),
        );

        let mut database = database(options, create)?;
        database.set_write_buffer_manager(&write_buffers);
        let mut families = Vec::new();
        for family in Family::ALL {
            let options = family_options(family, options, &cache, history_floor)?;
            families.push(ColumnFamilyDescriptor::new(family.name(), options));
        }
        // RocksDB insists on it.
        families.push(ColumnFamilyDescriptor::new(
            "default",
            rocksdb::Options::default(),
        ));
        Ok(Setup {
            database,
            families,
            cache,
            write_buffers,
        })
    }
}

fn database(options: &Options, create: bool) -> Result<rocksdb::Options, rocksdb::Error> {
    // Closing must not take as long as a flush does; what was not flushed is in the raft log.
    let mut db =
        rocksdb::Options::default().get_options_from_string("avoid_flush_during_shutdown=true")?;
    // Compaction keeps the priority of any thread: lowered, it starved on a busy machine, and reads paid for it threefold.
    db.create_if_missing(create);
    // Also in a store that exists: a crash may have come before all were created.
    db.create_missing_column_families(true);
    db.set_atomic_flush(true);
    db.set_paranoid_checks(true);
    db.set_max_background_jobs(
        i32::try_from(options.background_threads.max(2)).unwrap_or(i32::MAX),
    );
    // One thread writes: nothing to share between writers.
    db.set_allow_concurrent_memtable_write(false);
    db.set_enable_write_thread_adaptive_yield(false);
    // Spreads the writing of large files, so that a sync of the raft log does not wait behind all of it.
    db.set_bytes_per_sync(MIB as u64);

    // A start must cost neither the number of files nor the length of history.
    db.set_max_open_files(i32::try_from(options.open_files_max).unwrap_or(i32::MAX));
    db.set_skip_stats_update_on_db_open(true);
    db.set_max_manifest_file_size(4 * MIB);

    db.set_log_level(LogLevel::Info);
    db.set_max_log_file_size(4 * MIB);
    db.set_keep_log_file_num(2);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    Ok(db)
}

fn family_options(
    family: Family,
    options: &Options,
    cache: &Cache,
    history_floor: &Arc<AtomicI64>,
) -> Result<rocksdb::Options, rocksdb::Error> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(16 * KIB);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // The other families are read by scans, or by keys that are known to be there: a filter would never say no.
    if family == Family::Latest {
        table.set_bloom_filter(10.0, false);
        table.set_whole_key_filtering(true);
    }

    let mut cf = rocksdb::Options::default();
    if family == Family::Log {
        // Once no snapshot is older than a file, RocksDB rewrites it to drop what only snapshots could see. In the log there is
        // no such thing, and views come and go all the time: every file would be written twice.
        cf = cf.get_options_from_string("bottommost_file_compaction_delay=2592000")?;
    }
    cf.set_block_based_table_factory(&table);
    if family == Family::Latest {
        // The same in what is not flushed yet: most keys that are read are not there.
        cf.set_memtable_whole_key_filtering(true);
        cf.set_memtable_prefix_bloom_ratio(0.02);
    }
    cf.set_compression_type(DBCompressionType::Lz4);
    if family == Family::Latest {
        // Its flushed files are soon rewritten, since their keys lie all over the others': what is compressed is what lasts.
        cf.set_compression_per_level(&[DBCompressionType::None, DBCompressionType::Lz4]);
    }
    // All families are flushed together, and the log's is the one that fills first, with about half of all bytes.
    cf.set_write_buffer_size(options.write_buffer_bytes / 4);
    cf.set_max_write_buffer_number(4);
    if !matches!(family, Family::Latest | Family::Log) {
        // The default, an eighth of the write buffer, is more than these families fill between two flushes.
        cf.set_arena_block_size(64 * KIB);
    }
    // The log is truncated by whole files.
    let file_bytes = if family == Family::Log {
        8 * MIB
    } else {
        32 * MIB
    };
    cf.set_target_file_size_base(file_bytes as u64);
    cf.set_max_bytes_for_level_base(64 * MIB as u64);
    // One flush makes a file of level 0 in each family, however small: frequent flushes must not stall writes.
    cf.set_level_zero_slowdown_writes_trigger(40);
    cf.set_level_zero_stop_writes_trigger(60);
    match family {
        // Scans step over deleted keys one by one, so files full of them are rewritten soon.
        Family::Latest | Family::Lease => {
            cf.add_compact_on_deletion_collector_factory(4096, 2048, 0.5)
        }
        Family::Hist => {
            cf.set_compaction_filter_factory(HistoryFilterFactory {
                floor: history_floor.clone(),
            });
            // The filter sees a file only when it is rewritten.
            cf.set_periodic_compaction_seconds(6 * 60 * 60);
        }
        Family::Log | Family::Counts | Family::Meta => {}
    }
    Ok(cf)
}
