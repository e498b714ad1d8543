//! A connection that is read either when the kernel says that something came, or by the clock.
//!
//! A log driver writes record by record, and each of its writes would wake the event loop, even while nobody waits for
//! it. So a busy connection is taken out of the event loop: it is looked at by a clock, and goes back when nothing was
//! there a few times.

use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use super::clock::Clock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// A connection that can leave the event loop and come back.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Sized {
    /// Outside of the event loop; reading from it never blocks.
    type Outside: Read;

    fn leave(self) -> io::Result<Self::Outside>;
    fn come_back(outside: Self::Outside) -> io::Result<Self>;
}

impl Socket for UnixStream {
    type Outside = std::os::unix::net::UnixStream;

    fn leave(self) -> io::Result<Self::Outside> {
        self.into_std()
    }

    fn come_back(outside: Self::Outside) -> io::Result<Self> {
        UnixStream::from_std(outside)
    }
}

impl Socket for TcpStream {
    type Outside = std::net::TcpStream;

    fn leave(self) -> io::Result<Self::Outside> {
        self.into_std()
    }

    fn come_back(outside: Self::Outside) -> io::Result<Self> {
        TcpStream::from_std(outside)
    }
}

pub(super) struct Source<S: Socket> {
    /// None only when the connection broke on its way in or out.
    state: Option<State<S>>,
}

enum State<S: Socket> {
    Watched(S),
    Paused(Paused<S>),
}

struct Paused<S: Socket> {
    outside: S::Outside,
    clock: Clock,
    /// There may be more: nobody asked for a pause since.
    at_once: bool,
    /// How often nothing was there, one time behind the other.
    empty: u8,
}

/// Going back and out again costs more than looking in vain.
const EMPTY_MAX: u8 = 3;

impl<S: Socket> Source<S> {
    pub(super) fn new(stream: S) -> Self {
        Source { state: Some(State::Watched(stream)) }
    }

    /// How many bytes came, 0 at the end. Dropping the future loses nothing.
    pub(super) async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(State::Paused(paused)) = &mut self.state
            && paused.empty < EMPTY_MAX
        {
            if !std::mem::take(&mut paused.at_once) {
                paused.clock.tick().await;
            }
            match paused.outside.read(into) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    paused.empty += 1;
                }
                read => {
                    (paused.at_once, paused.empty) = (true, 0);
                    return read;
                }
            }
        }
        self.watched()?.read(into).await
    }

    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.watched()?.write_all(bytes).await
    }

    /// Nothing is to be read for so long: a busy connection does not disturb meanwhile.
    pub(super) async fn pause(&mut self, pause: Duration, busy: bool) -> io::Result<()> {
        self.state = Some(match self.state.take().ok_or(ErrorKind::NotConnected)? {
            State::Paused(mut paused) => {
                paused.at_once = false;
                paused.clock.set(pause);
                State::Paused(paused)
            }
            State::Watched(stream) if busy => {
                let outside = stream.leave()?;
                State::Paused(Paused { outside, clock: Clock::new(pause), at_once: false, empty: 0 })
            }
            State::Watched(stream) => {
                self.state = Some(State::Watched(stream));
                tokio::time::sleep(pause).await;
                return Ok(());
            }
        });
        Ok(())
    }

    fn watched(&mut self) -> io::Result<&mut S> {
        if let Some(State::Paused(_)) = &self.state
            && let Some(State::Paused(Paused { outside, .. })) = self.state.take()
        {
            self.state = Some(State::Watched(S::come_back(outside)?));
        }
        match &mut self.state {
            Some(State::Watched(stream)) => Ok(stream),
            _ => Err(ErrorKind::NotConnected.into()),
        }
    }
}

/// In tests: what is in memory has no event loop to leave.
#[cfg(test)]
mod in_memory {
    use futures::FutureExt;
    use tokio::io::DuplexStream;

    use super::*;

    pub(crate) struct Outside(DuplexStream);

    impl Read for Outside {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into).now_or_never().unwrap_or(Err(ErrorKind::WouldBlock.into()))
        }
    }

    impl Socket for DuplexStream {
        type Outside = Outside;

        fn leave(self) -> io::Result<Outside> {
            Ok(Outside(self))
        }

        fn come_back(outside: Outside) -> io::Result<Self> {
            Ok(outside.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_is_read_by_the_clock_and_watched_again_when_it_falls_silent() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let (mut source, mut into) = (Source::new(ours), [0; 8]);
        theirs.write_all(b"one").await.expect("written");
        assert_eq!(source.read(&mut into).await.expect("read"), 3);
        source.pause(Duration::from_millis(1), true).await.expect("paused");
        theirs.write_all(b"two!").await.expect("written");
        assert_eq!(source.read(&mut into).await.expect("read"), 4);
        assert!(matches!(source.state, Some(State::Paused(_))));
        source.pause(Duration::from_millis(1), true).await.expect("paused");
        let (read, written) = tokio::join!(source.read(&mut into), async {
            // Long after the pause: the reader has gone back to waiting.
            tokio::time::sleep(Duration::from_millis(50)).await;
            theirs.write_all(b"three").await
        });
        assert_eq!((read.expect("read"), written.is_ok()), (5, true));
        assert!(matches!(source.state, Some(State::Watched(_))));
        source.pause(Duration::from_millis(1), true).await.expect("paused");
        source.write_all(b"ack").await.expect("a paused connection can be written to");
        let mut answer = [0; 3];
        theirs.read_exact(&mut answer).await.expect("read");
        drop(theirs);
        assert_eq!((&answer, source.read(&mut into).await.expect("the end")), (b"ack", 0));
    }
}
