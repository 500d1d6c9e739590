//! Generates the Rust types of our .proto files; the gRPC clients and servers only with the feature `grpc`.

fn main() -> std::io::Result<()> {
    let grpc = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    let files = [
        "etcd/rpc.proto",
        "keelson/command.proto",
        "keelson/peer.proto",
    ];
    // File by file: of a directory, even in a fresh clone of the same files, cargo would see that it is new.
    for file in files.into_iter().chain(["etcd/kv.proto"]) {
        println!("cargo:rerun-if-changed={file}");
    }
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .build_client(grpc)
        .build_server(grpc)
        .bytes(".")
        .compile_protos(&files, &["."])
}
