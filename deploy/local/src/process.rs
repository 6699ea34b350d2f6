//! A server that runs as a child of ours, and never outlives us.
//!
//! Three things can end a stack: its owner stops it, its owner is dropped, or the whole runner is killed with SIGKILL and
//! can do nothing any more. For the last the kernel helps: `setpriv --pdeathsig KILL` asks it to kill the child when its
//! parent dies. The kernel takes "parent" to be the *thread* that started the child, so every child is started by one
//! thread that lives as long as the process. `setsid` gives each child a session of its own, so that the Ctrl-C of a
//! terminal reaches the runner alone, which then ends its children in order.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

/// How often a child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(20);
/// How much of a log is shown with an error.
const TAIL_LINES: usize = 25;

/// What to start.
#[derive(Debug, Clone)]
pub struct Program {
    name: String,
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
}

impl Program {
    /// The program at `path`; `name` is for its log file and for messages.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), path: path.into(), arguments: Vec::new(), environment: Vec::new(), directory: None }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments in their order.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets one environment variable beside those that are inherited.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Sets the working directory; it must exist at the start.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    fn command(&self, log: &File) -> io::Result<Command> {
        let mut command = Command::new("setsid");
        command.args(["setpriv", "--pdeathsig", "KILL", "--"]).arg(&self.path).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
        Ok(command)
    }
}

/// Why a child could not be started, or is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started at all.
    #[error("cannot start {name}: {source}")]
    Start {
        /// The program's name.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// It ended by itself while it was still needed.
    #[error("{name} ended by itself ({status}); the end of {log}:\n{tail}", log = log.display())]
    Died {
        /// The program's name.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// It runs, but did not get ready before its deadline.
    #[error("{name} was not ready after {waited:?}: {last}; the end of {log}:\n{tail}", log = log.display())]
    NotReady {
        /// The program's name.
        name: String,
        /// How long it was waited for.
        waited: Duration,
        /// What the last readiness check said.
        last: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    log: PathBuf,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `program` with its standard output and error appended to `<logs>/<name>.log`.
    ///
    /// # Errors
    /// [`ProcessError::Start`] when the log cannot be written or the program cannot be started.
    pub async fn start(program: Program, logs: &Path) -> Result<Self, ProcessError> {
        let log = logs.join(format!("{}.log", program.name));
        let failed = |source| ProcessError::Start { name: program.name.clone(), source };
        let file = File::options().create(true).append(true).open(&log).map_err(failed)?;
        let command = program.command(&file).map_err(failed)?;
        let child = spawn(command).await.map_err(failed)?;
        Ok(Self { name: program.name, pid: child.id(), log, child: Mutex::new(child) })
    }

    /// The program's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id; the id of the program itself, because the wrappers replace themselves by it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The file with everything that it printed.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    pub fn exited(&self) -> Option<ExitStatus> {
        // A child that cannot even be asked (it was reaped elsewhere) is gone too.
        self.child().try_wait().unwrap_or_else(|_| Some(ExitStatus::from_raw(0)))
    }

    /// Repeats `check` until it succeeds; a check is given until `deadline` as a whole.
    ///
    /// # Errors
    /// [`ProcessError::Died`] as soon as the child has ended, [`ProcessError::NotReady`] with what the last check said.
    pub async fn ready<F, Fut>(&self, deadline: Duration, check: F) -> Result<(), ProcessError>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<(), String>>,
    {
        let started = Instant::now();
        loop {
            self.alive()?;
            let left = deadline.saturating_sub(started.elapsed());
            let last = match tokio::time::timeout(left, check()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(last)) => last,
                Err(_) => "the check itself did not answer".to_owned(),
            };
            if started.elapsed() >= deadline {
                let (name, log, tail) = (self.name.clone(), self.log.clone(), tail(&self.log));
                return Err(ProcessError::NotReady { name, waited: deadline, last, log, tail });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Succeeds while the child runs.
    ///
    /// # Errors
    /// [`ProcessError::Died`] with the end of its log.
    pub fn alive(&self) -> Result<(), ProcessError> {
        let Some(status) = self.exited() else { return Ok(()) };
        Err(ProcessError::Died { name: self.name.clone(), status, log: self.log.clone(), tail: tail(&self.log) })
    }

    /// Asks the child to end (SIGTERM), waits for at most `grace`, then kills it (SIGKILL). The child is gone on return.
    pub async fn stop(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.terminate();
        while self.exited().is_none() && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
        self.kill();
    }

    /// Kills the child with SIGKILL, as a crash would, and waits until it is gone.
    pub fn kill(&self) {
        let mut child = self.child();
        // Both fail only for a child that is gone already.
        let _ = child.kill();
        let _ = child.wait();
    }

    fn terminate(&self) {
        let child = self.child();
        if let Ok(Some(pid)) = i32::try_from(child.id()).map(Pid::from_raw) {
            // Not yet reaped, as the lock is held: the id cannot be another process's. It may have ended, which is fine.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log, for an error message; empty when it cannot be read.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

struct Order {
    command: Command,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// The one thread that starts children; it lives as long as the process, see the module's text.
static STARTER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (orders, inbox) = mpsc::channel::<Order>();
    std::thread::spawn(move || {
        for mut order in inbox {
            // Nobody waits any more: the child must not be left running on its own.
            if let Err(Ok(mut child)) = order.reply.send(order.command.spawn()) {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    });
    orders
});

async fn spawn(command: Command) -> io::Result<Child> {
    let (reply, answer) = oneshot::channel();
    let gone = || io::Error::other("the thread that starts children is gone");
    STARTER.send(Order { command, reply }).map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

#[cfg(test)]
mod tests;
