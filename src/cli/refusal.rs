//! What is said when a process may not be watched.

use super::{exit::Failure, typed};
use crate::{
    process::access::{self, Reason},
    sampler::Error,
    style::escape,
    task::Pid,
};

/// `error`, with the fact behind it and what mends it.
pub(super) fn explain(error: &Error) -> anyhow::Error {
    match error {
        Error::NoSuchProcess(pid) => no_such_process(*pid),
        Error::Forbidden(pid) => forbidden(*pid),
        Error::Io { source, .. } => Failure::failed(error.to_string()).why(source.to_string()),
    }
    .into()
}

/// The number is of no process that can be seen.
pub(super) fn no_such_process(pid: Pid) -> Failure {
    let facts = access::facts(pid);
    if facts.exists && facts.reason() != Reason::Unknown {
        return forbidden(pid);
    }
    let failure = Failure::failed(format!("no process has the number {pid}"));
    match access::namesake(pid) {
        Some(outer) => failure
            .why(format!(
                "in a container below, {pid} is the number of what is process {outer} here"
            ))
            .fix(typed::again_with(pid, outer)),
        None => failure,
    }
}

fn forbidden(pid: Pid) -> Failure {
    let refusal = access::facts(pid).refusal();
    Failure::failed(format!("process {pid} may not be watched"))
        .why(escape(&refusal.reason.to_string()).into_owned())
        .fix(refusal.mend(&typed::again()))
}
