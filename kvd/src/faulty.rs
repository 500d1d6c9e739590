//! `kvd-faulty`: `kvd` with failpoints and bugs that were planted on purpose, for the tests of the tests. See
//! `keelson-planted` for the bugs, and `keelson_kvd::failpoints` for what can be made to fail.

use std::process::ExitCode;

fn main() -> ExitCode {
    let bug = keelson_planted::announce();
    if let Err(error) = keelson_kvd::failpoints::follow() {
        eprintln!("kvd-faulty: {error:#}");
        return ExitCode::FAILURE;
    }
    let code = keelson_kvd::process();
    if std::env::args_os().any(|word| word == "--version") {
        println!("failpoints: yes");
        println!("planted bug: {}", bug.map_or("none", |bug| bug.name()));
    }
    code
}
