//! The command line of `keelson scheduler`.

use keelson_component::ConnectArgs;
use keelson_component::election::ElectionArgs;

use crate::pod::DEFAULT_SCHEDULER;

/// How to schedule.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where the API server is.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// How several processes agree on who works.
    #[command(flatten)]
    pub election: ElectionArgs,
    /// Take the pods that ask for a scheduler of this name
    #[arg(long, value_name = "NAME", default_value = DEFAULT_SCHEDULER)]
    pub scheduler_name: String,
}
