//! `sim-faulty`: `sim` with bugs that were planted on purpose, to see that it finds them. See `keelson-planted`.

use std::process::ExitCode;

#[path = "main.rs"]
mod sim;

fn main() -> ExitCode {
    // A name that is not known ends it before anything is simulated.
    keelson_planted::announce();
    sim::main()
}
