//! In whose service the present work is done: what makes nested calls inherit (SPEC 4.4).

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use switchboard_transport::clock;

/// The request that is being served here: its deadline, its priority, and which it is.
///
/// While a handler runs, this is set for its thread, and every call made there inherits: the smaller
/// deadline, the larger priority, and the request as its parent, which is how `switchboard waits` knows
/// who waits on whom. Nothing has to be done for that. Work that is handed to another thread takes
/// the context along with [`crate::spawn`], or by hand:
///
/// ```
/// use switchboard::Context;
///
/// let context = Context::current(); // `None` outside a handler
/// std::thread::spawn(move || {
///     let _entered = context.map(Context::enter);
///     // calls made here inherit
/// });
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Context {
    pub(crate) connection: u64,
    pub(crate) request: u64,
    /// Our time; 0 for none.
    pub(crate) deadline: u64,
    pub(crate) priority: u8,
}

/// While it lives, the context is that of this thread. What was before comes back when it is dropped.
#[derive(Debug)]
#[must_use = "the context is left when this is dropped"]
pub struct Entered {
    before: Option<Context>,
    /// It belongs to its thread.
    not_send: PhantomData<*const ()>,
}

/// A future that is polled in a context. Made by [`Context::scope`].
pub struct Scoped<F> {
    context: Context,
    future: Pin<Box<F>>,
}

thread_local! {
    static CURRENT: Cell<Option<Context>> = const { Cell::new(None) };
}

impl Context {
    /// That of the present thread, or of the task that it runs.
    #[inline]
    pub fn current() -> Option<Self> {
        CURRENT.get()
    }

    /// Sets it for this thread, until the guard is dropped.
    #[inline]
    pub fn enter(self) -> Entered {
        Entered { before: CURRENT.replace(Some(self)), not_send: PhantomData }
    }

    /// Has a future run in it, on whatever thread and under whatever runtime.
    pub fn scope<F: Future>(self, future: F) -> Scoped<F> {
        Scoped { context: self, future: Box::pin(future) }
    }

    /// How much time is left; `None` if there is no deadline, zero if it has passed.
    pub fn time_left(&self) -> Option<Duration> {
        (self.deadline != 0)
            .then(|| Duration::from_nanos(self.deadline.saturating_sub(clock::monotonic_ns())))
    }

    /// 0 (least) to 7.
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// The earlier of two deadlines, of which 0 is none.
    pub(crate) fn inherit_deadline(context: Option<Self>, own: u64) -> u64 {
        match context.map_or(0, |context| context.deadline) {
            0 => own,
            inherited if own == 0 => inherited,
            inherited => inherited.min(own),
        }
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<F::Output> {
        let _entered = self.context.enter();
        self.future.as_mut().poll(task)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("request", &format_args!("{:#x}", self.request))
            .field("time_left", &self.time_left())
            .field("priority", &self.priority)
            .finish()
    }
}

impl<F> fmt::Debug for Scoped<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scoped").field("context", &self.context).finish_non_exhaustive()
    }
}

/// [`std::thread::spawn`], in the context of the present thread: calls made there inherit.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
    let context = Context::current();
    std::thread::spawn(move || {
        let _entered = context.map(Context::enter);
        work()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(deadline: u64) -> Context {
        Context { connection: 1, request: 2, deadline, priority: 3 }
    }

    #[test]
    fn the_earlier_deadline_holds_and_none_is_later_than_any() {
        let inherit = |own, of_context| Context::inherit_deadline(Some(context(of_context)), own);
        assert_eq!(inherit(5, 7), 5);
        assert_eq!(inherit(7, 5), 5);
        assert_eq!(inherit(0, 5), 5);
        assert_eq!(inherit(5, 0), 5);
        assert_eq!(inherit(0, 0), 0);
        assert_eq!(Context::inherit_deadline(None, 9), 9);
    }

    #[test]
    fn a_context_ends_with_its_guard_and_goes_to_spawned_threads() {
        assert_eq!(Context::current(), None);
        {
            let _outer = context(1).enter();
            {
                let _inner = context(2).enter();
                assert_eq!(spawn(Context::current).join().expect("joined"), Some(context(2)));
            }
            assert_eq!(Context::current(), Some(context(1)));
        }
        assert_eq!(Context::current(), None);
    }
}
