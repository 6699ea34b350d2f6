//! What a person may do to a deployment.

use jiff::Timestamp;

use super::{Decision, Draft};
use crate::deployment::{Cause, Deployment, State};

/// A person's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Go on from a gate.
    Promote,
    /// Take the version back; it is bad.
    Rollback,
    /// Hold at the weight.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Take the version back; it is not to blame.
    Abort,
}

/// A command that the state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a deployment that is {state} cannot be {verb}; {instead}")]
pub struct Illegal {
    state: &'static str,
    verb: &'static str,
    instead: &'static str,
}

impl Command {
    fn participle(self) -> &'static str {
        match self {
            Self::Promote => "promoted",
            Self::Rollback => "rolled back",
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Abort => "aborted",
        }
    }
}

/// What follows from a command.
///
/// # Errors
/// If the state does not allow it; the error says what would be allowed.
pub fn command(
    deployment: &Deployment,
    command: Command,
    actor: &str,
    reason: &str,
    now: Timestamp,
) -> Result<Decision, Illegal> {
    let mut draft = Draft::new(deployment, now);
    actor.clone_into(&mut draft.actor);
    draft.hurry();
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let verb = command.participle();
    match (command, &deployment.state) {
        (_, State::Promoted { .. } | State::RolledBack { .. }) => {
            return Err(refused(deployment, command, "it has ended; create a new deployment"));
        }
        // The registry may have heard of the promotion already, and takes one outcome per deployment.
        (_, State::RollingBack { .. } | State::Promoting { proven: true, .. }) => {
            return Err(refused(deployment, command, "it ends by itself"));
        }
        (Command::Rollback, _) => draft.roll_back(Cause::Rollback, format!("{verb} by {actor}{because}")),
        (Command::Abort, _) => draft.roll_back(Cause::Abort, format!("{verb} by {actor}{because}")),
        (Command::Promote, State::Waiting { step, .. }) => {
            let step = *step;
            draft.expose(step + 1, &format!("{verb} by {actor}{because}"));
        }
        (Command::Promote, _) => return Err(refused(deployment, command, "only one that waits at a gate can")),
        (Command::Pause, State::Pending | State::Promoting { .. } | State::Paused { .. }) => {
            return Err(refused(deployment, command, "roll it back or abort it instead"));
        }
        (Command::Pause, _) => draft.pause(format!("{verb} by {actor}{because}")),
        (Command::Resume, State::Paused { step, .. }) => {
            let step = *step;
            draft.expose(step, &format!("{verb} by {actor}{because}"));
        }
        (Command::Resume, _) => return Err(refused(deployment, command, "it is not paused")),
    }
    Ok(draft.finish())
}

fn refused(deployment: &Deployment, command: Command, instead: &'static str) -> Illegal {
    Illegal { state: deployment.state.name(), verb: command.participle(), instead }
}
