//! The service under its supervisors: systemd's notify socket, and PID 1 of a container.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use crate::support::*;
use handle_exit::Signal;

const SUPERVISED: &str = env!("CARGO_BIN_EXE_supervised");
const UNIT: &str = include_str!("../supervised.service");

/// What `supervised` gives the job that is under way.
const GRACE: Duration = Duration::from_secs(20);

/// A setting of the unit file.
fn setting(name: &str) -> &str {
    let value = UNIT.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in the unit file"))
}

/// The socket that a supervisor of `Type=notify` listens on.
struct NotifySocket {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl NotifySocket {
    fn bind() -> NotifySocket {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        NotifySocket { socket, directory }
    }

    /// The service, started as systemd starts it.
    fn service(&self, job_ms: u64) -> Victim {
        let mut command = Command::new(SUPERVISED);
        command.arg(job_ms.to_string()).env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        Victim::start(command)
    }

    /// The assignments of the next message.
    fn receive(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("no message in time");
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

fn supervised_tells_systemd_that_it_is_ready_and_how_long_the_stop_may_take() {
    for signal in [Signal::TERM, Signal::INT] {
        let systemd = NotifySocket::bind();
        let mut service = systemd.service(3000);
        assert_eq!(systemd.receive(), ["READY=1", "STATUS=working"]);
        service.expect("at a job");
        service.send(signal);

        let message = systemd.receive();
        assert!(message.contains(&"STOPPING=1".to_owned()), "{message:?}");
        let extension = message.iter().find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="));
        let extension = Duration::from_micros(extension.unwrap().parse().unwrap());
        assert!(extension > GRACE, "KILL would come after {extension:?}");

        let end = service.end();
        assert_eq!((end.count("job done"), end.count("stopping")), (1, 1), "{end:#?}");
        end.exited(0).ended_with("finished");
    }
}

/// systemd takes that for a clean stop too, and `Restart=on-failure` leaves it so.
fn supervised_dies_of_the_signal_when_a_job_takes_too_long() {
    let systemd = NotifySocket::bind();
    let mut service = systemd.service(600_000);
    service.expect("at a job");
    service.send(Signal::TERM);
    service.end().died_by(Signal::TERM).said(&["at a job", "stopping"]);
}

fn supervised_runs_without_systemd() {
    let mut service = Victim::start(Command::new(SUPERVISED));
    service.expect("at a job");
    service.send(Signal::TERM);
    let end = service.end();
    end.exited(0).ended_with("finished");
    assert_eq!(end.stderr, "");
}

fn supervised_is_pid_1_of_a_container() {
    let unshare = match as_pid_1() {
        Ok(unshare) => unshare,
        Err(why) => return println!("{why}"),
    };
    let start = |job_ms: u64| {
        let mut command = Command::new("unshare");
        command.args(unshare).arg(SUPERVISED).arg(job_ms.to_string());
        let mut container = Victim::start(command);
        container.expect("at a job");
        let service = child_of(container.pid());
        (container, service)
    };

    let (container, service) = start(3000);
    kill(service, Signal::TERM);
    container.end().exited(0).ended_with("finished");

    // It cannot die of the signal, so it exits with what a shell would show for that.
    let (mut container, service) = start(600_000);
    kill(service, Signal::TERM);
    container.expect("stopping");
    // The time is what is tested: half a second after the first, a repeat ends the wait.
    std::thread::sleep(Duration::from_millis(600));
    kill(service, Signal::TERM);
    container.end().exited(143);
}

fn supervised_has_a_unit_file_that_fits() {
    assert_eq!(setting("Type"), "notify");
    let timeout = Duration::from_secs(setting("TimeoutStopSec").parse().unwrap());
    assert!(timeout < GRACE, "it shows nothing of EXTEND_TIMEOUT_USEC");

    // With the program that is there, for `verify` wants to see it.
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("supervised.service");
    std::fs::write(&unit, UNIT.replace(setting("ExecStart"), SUPERVISED)).unwrap();
    match Command::new("systemd-analyze").arg("verify").arg(&unit).output() {
        Err(error) => println!("skipped: the unit file: systemd-analyze: {error}"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("supervised.service"), "{said}");
        }
    }
}

pub(crate) const TESTS: &[Named] = tests![
    supervised_tells_systemd_that_it_is_ready_and_how_long_the_stop_may_take,
    supervised_dies_of_the_signal_when_a_job_takes_too_long,
    supervised_runs_without_systemd,
    supervised_is_pid_1_of_a_container,
    supervised_has_a_unit_file_that_fits,
];
