//! switchboardd: the Switchboard broker daemon.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use switchboard_broker::{Instance, Options};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The message broker of this machine: names, calls and messages between its processes.
///
/// Without options it serves the user instance. SIGTERM ends it, SIGHUP has it read its
/// configuration again.
#[derive(Debug, Parser)]
#[command(name = "switchboardd", version)]
struct Arguments {
    /// Read this configuration file, and conf.d and services.d beside it, instead of the instance's
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen here [default: $SWITCHBOARD_SOCKET, else the instance's socket]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Keep here what outlives the daemon; made if it is missing
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// What to log: off, error, warn, info, debug or trace, also by target (warn,switchboard::audit=info)
    #[arg(long, value_name = "SPEC")]
    log: Option<String>,
    /// Be the system instance
    #[arg(long, conflicts_with = "user")]
    system: bool,
    /// Be the user instance, whatever $SWITCHBOARD_SOCKET says
    #[arg(long)]
    user: bool,
    /// Only check the configuration: exit 0 if it is right, else say what is wrong and exit 2
    #[arg(long)]
    check: bool,
}

/// Wrong usage or configuration (CLI).
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        socket: arguments.socket,
        instance: match (arguments.system, arguments.user) {
            (true, _) => Some(Instance::System),
            (_, true) => Some(Instance::User),
            (false, false) => None,
        },
        config: arguments.config,
        state_dir: arguments.state_dir,
        spin: None,
    };
    let loaded = match switchboard_broker::check(&options) {
        Ok(loaded) => loaded,
        Err(error) => return fail(&error.to_string(), error.exit_status()),
    };
    let spec = arguments.log.as_deref().unwrap_or(&loaded.driver.log);
    let parse = || spec.parse::<Targets>().map_err(|error| error.to_string());
    let filter = match switchboard_config::check_log(spec).and_then(|()| parse()) {
        Ok(filter) => filter,
        Err(error) => {
            let text = format!(
                "cannot read the log specification {spec:?}: {error}; write a level (off, error, warn, info, debug, trace), or levels by target, such as warn,switchboard::audit=info"
            );
            return fail(&text, WRONG);
        }
    };
    if arguments.check {
        return ExitCode::SUCCESS;
    }
    set_up_log(filter);
    match switchboard_broker::run_loaded(&options, loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), error.exit_status()),
    }
}

/// Nothing more can be done if even stderr is closed, so a failed write is no reason to panic.
fn fail(text: &str, status: u8) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "switchboardd: {}", text.trim_end());
    ExitCode::from(status)
}

/// To journald with its fields where stderr is the journal anyway, else to stderr as text.
fn set_up_log(filter: Targets) {
    if stderr_is_the_journal()
        && let Ok(journal) = tracing_journald::layer()
    {
        let journal = journal.with_syslog_identifier("switchboardd".into());
        return tracing_subscriber::registry().with(journal.with_filter(filter)).init();
    }
    let text = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        // When stderr cannot be written to, writing to stderr about it would be a panic.
        .log_internal_errors(false);
    tracing_subscriber::registry().with(text.with_filter(filter)).init();
}

/// systemd says which file the journal's stream is (`JOURNAL_STREAM=device:inode`), so that a
/// redirected stderr is told apart.
fn stderr_is_the_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}
