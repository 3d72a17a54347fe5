//! Deleting what is named on the command line, one after the other, for `topic` and `user`.

use clap::ArgMatches;
use serde_json::json;

use super::arguments::{api, print, print_json, texts};
use super::failure::Failure;

/// Deletes each `what` that was named, by its path, and says so as `said` does, or in JSON. With
/// `--if-exists` what is not there is none of them, and no failure.
///
/// # Errors
/// At the first that is not deleted: those before it are.
pub(super) fn delete_each(
    flags: &ArgMatches,
    what: &str,
    path: impl Fn(&str) -> String,
    said: impl Fn(&str) -> String,
) -> Result<(), Failure> {
    let api = api(flags)?;
    let mut deleted = Vec::new();
    for name in texts(flags, what) {
        match api.delete(&path(name)) {
            Ok(()) => deleted.push(name),
            Err(failure) if failure.is_not_found() && flags.get_flag("if-exists") => {}
            Err(failure) => return Err(failure),
        }
    }
    if flags.get_flag("json") {
        return print_json(&json!(deleted));
    }
    print(&deleted.into_iter().map(said).collect::<String>())
}
