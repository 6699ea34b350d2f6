use std::io::{BufRead, BufReader};

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn shell(name: &str, script: &str) -> Program {
    Program::new(name, "/bin/sh").args(["-c", script])
}

/// Is there such a process, other than as a zombie that waits to be reaped by somebody else?
fn runs(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state follows the program's name, which is in parentheses.
    stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z'))
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(POLL);
    }
}

#[tokio::test]
async fn output_goes_to_the_log_and_a_death_is_told_with_its_end() {
    let logs = tempfile::tempdir().expect("temp folder");
    let process = Process::start(shell("loud", "echo one; echo two >&2; exit 3"), logs.path()).await.expect("start");

    let error = process.ready(PATIENCE, || async { Err("not yet".to_owned()) }).await.expect_err("it died");

    let message = error.to_string();
    assert!(matches!(error, ProcessError::Died { ref status, .. } if status.code() == Some(3)), "{message}");
    assert!(message.contains("one\ntwo"), "{message}");
}

#[tokio::test]
async fn a_check_that_never_succeeds_ends_at_the_deadline() {
    let logs = tempfile::tempdir().expect("temp folder");
    let process = Process::start(shell("slow", "sleep 600"), logs.path()).await.expect("start");

    let error = process.ready(Duration::from_millis(50), || async { Err("still no".to_owned()) }).await;

    let error = error.expect_err("not ready");
    assert!(matches!(&error, ProcessError::NotReady { last, .. } if last == "still no"), "{error}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told() {
    let logs = tempfile::tempdir().expect("temp folder");
    let process =
        Process::start(Program::new("ghost", "/nowhere/ghost"), logs.path()).await.expect("the wrapper starts");
    let error = process.ready(PATIENCE, || async { Err("not yet".to_owned()) }).await.expect_err("it died");
    assert!(error.to_string().contains("/nowhere/ghost"), "{error}");
}

#[tokio::test]
async fn stop_is_polite_first_and_certain_in_the_end() {
    let logs = tempfile::tempdir().expect("temp folder");
    let polite = shell("polite", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done");
    let deaf = shell("deaf", "trap '' TERM; echo ready; while :; do sleep 0.01; done");
    for (program, grace, goodbye) in [(polite, PATIENCE, true), (deaf, Duration::from_millis(100), false)] {
        let process = Process::start(program, logs.path()).await.expect("start");
        process.ready(PATIENCE, || async { says_ready(&process) }).await.expect("ready");

        process.stop(grace).await;

        assert!(!runs(process.pid()), "{} still runs", process.name());
        assert_eq!(tail(process.log()).contains("bye"), goodbye, "{}", process.name());
    }
}

#[tokio::test]
async fn a_dropped_process_is_gone() {
    let logs = tempfile::tempdir().expect("temp folder");
    let process = Process::start(shell("dropped", "exec sleep 600"), logs.path()).await.expect("start");
    let pid = process.pid();
    drop(process);
    assert!(!runs(pid));
}

/// The test runs itself again as the parent (the variable tells it so) and kills that with SIGKILL.
#[test]
fn children_die_with_a_killed_parent() {
    const ROLE: &str = "MESHWARD_TEST_PARENT_LOGS";
    if let Some(logs) = std::env::var_os(ROLE) {
        parent_that_waits_to_be_killed(Path::new(&logs));
    }
    let logs = tempfile::tempdir().expect("temp folder");
    let mut parent = Command::new(std::env::current_exe().expect("this test program"))
        .args(["--exact", "process::tests::children_die_with_a_killed_parent", "--nocapture"])
        .env(ROLE, logs.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the parent");
    let lines = BufReader::new(parent.stdout.take().expect("piped")).lines();
    let pid: u32 = lines
        .map(|line| line.expect("a line"))
        .find_map(|line| line.rsplit_once("child=").and_then(|(_, pid)| pid.parse().ok()))
        .expect("the parent says its child's id");
    assert!(runs(pid), "the child runs before the parent is killed");

    parent.kill().expect("kill the parent");
    parent.wait().expect("reap the parent");

    wait_until("the child is gone", || !runs(pid));
}

fn parent_that_waits_to_be_killed(logs: &Path) -> ! {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let program = shell("orphan", "echo ready; exec sleep 600");
    let process = runtime.block_on(Process::start(program, logs)).expect("start");
    // Only once it prints has the child asked the kernel to die with its parent.
    wait_until("the child is ready", || tail(process.log()).contains("ready"));
    println!("child={}", process.pid());
    loop {
        std::thread::park();
    }
}

fn says_ready(process: &Process) -> Result<(), String> {
    if tail(process.log()).contains("ready") { Ok(()) } else { Err("silent".to_owned()) }
}
