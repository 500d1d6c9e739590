//! `kvd`: one member of the store.

use std::process::ExitCode;

fn main() -> ExitCode {
    // What is not UTF-8 cannot be a flag or a URL; as a path it is named with the bytes replaced, and not found.
    let text = |word: std::ffi::OsString| word.to_string_lossy().into_owned();
    let env = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    keelson_kvd::program(std::env::args_os().skip(1).map(text), env)
}
