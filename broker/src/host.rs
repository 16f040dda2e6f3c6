//! Whoever runs the daemon: a terminal, systemd, or a program that embeds it. Its wishes come in
//! here (stop, reload), and news of the daemon go out.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use switchboard_transport::{Fds, Interest, Poller, Stream, Waker, clock};

use crate::reactor::HOST;

/// What the host wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// End, telling everybody.
    Stop,
    /// Read the configuration again.
    Reload,
    /// Look at what another thread has finished.
    Look,
}

/// The host of this daemon.
#[derive(Debug)]
pub(crate) struct Host {
    /// Each with the wish it stands for; its token is its place plus [`HOST`].
    signals: Vec<(Stream, Wish)>,
    stop: Arc<Waker>,
    news: Arc<Waker>,
    /// systemd wants to hear of us this often, and the next time it will, in nanoseconds.
    watchdog: Option<(u64, u64)>,
    speaks: bool,
}

const STOP: u64 = HOST + 100;
const NEWS: u64 = HOST + 101;

impl Host {
    /// The host of a program of its own: signals and systemd.
    pub(crate) fn of_process(poller: &Poller) -> io::Result<Self> {
        let mut signals = Vec::new();
        for (signal, wish) in [(SIGTERM, Wish::Stop), (SIGINT, Wish::Stop), (SIGHUP, Wish::Reload)] {
            let (ours, handlers) = UnixStream::pair()?;
            pipe::register(signal, handlers)?;
            let ours = Stream::from(OwnedFd::from(ours));
            poller.add(&ours, HOST + signals.len() as u64, Interest::READ)?;
            signals.push((ours, wish));
        }
        let mut host = Self::of_thread(poller, Arc::new(Waker::new()?))?;
        host.signals = signals;
        host.speaks = true;
        host.watchdog = sd_notify::watchdog_enabled().map(|limit| {
            // Twice as often as needed, as sd_watchdog_enabled(3) advises.
            let every = (limit / 2).as_nanos() as u64;
            (every, clock::monotonic_ns().saturating_add(every))
        });
        Ok(host)
    }

    /// The host of a daemon on a thread of another program: that program stops it.
    pub(crate) fn of_thread(poller: &Poller, stop: Arc<Waker>) -> io::Result<Self> {
        let news = Arc::new(Waker::new()?);
        poller.add(&stop, STOP, Interest::READ)?;
        poller.add(&news, NEWS, Interest::READ)?;
        Ok(Self { signals: Vec::new(), stop, news, watchdog: None, speaks: false })
    }

    /// Wakes the daemon with [`Wish::Look`].
    pub(crate) fn news(&self) -> Arc<Waker> {
        Arc::clone(&self.news)
    }

    /// What a token of ours that is ready means.
    pub(crate) fn wish(&self, token: u64) -> Option<Wish> {
        match token {
            STOP => {
                self.stop.reset();
                Some(Wish::Stop)
            }
            NEWS => {
                self.news.reset();
                Some(Wish::Look)
            }
            token => {
                let (stream, wish) = self.signals.get(usize::try_from(token - HOST).ok()?)?;
                // One byte a signal; however many came, the wish is the same.
                let _ = stream.recv(&mut [0; 64], &mut Fds::new());
                Some(*wish)
            }
        }
    }

    /// How long the loop may sleep. Tells the watchdog that we are alive when it is time to.
    pub(crate) fn patience(&mut self) -> Option<Duration> {
        let (every, next) = self.watchdog.as_mut()?;
        let now = clock::monotonic_ns();
        if now >= *next {
            *next = now.saturating_add(*every);
            notify(&[NotifyState::Watchdog]);
        }
        Some(Duration::from_nanos(*next - now))
    }

    /// Connections are accepted from now on.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Configuration is being read again.
    pub(crate) fn reloading(&self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.tell(&[NotifyState::Reloading, now]);
        }
    }

    /// The daemon is about to end.
    pub(crate) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("telling everybody that the broker ends")]);
    }

    fn tell(&self, news: &[NotifyState<'_>]) {
        if self.speaks {
            notify(news);
        }
    }
}

/// Without systemd nobody listens, and a service manager that does not take the message will find
/// out by itself.
fn notify(news: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(news);
}
