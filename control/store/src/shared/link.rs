//! How a process that ends is noticed at once: its kernel closes the connections that others have to it.
//!
//! Whoever leads says its term to those who connect, and nothing more ever. A connection that is closed, not one that
//! falls silent, is the end of the process. Being wrong about it is harmless: it costs a change of leaders that was not needed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// When a connection that could not be made is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// Connections that are served at once: there are few others.
const MOST: usize = 16;

/// Serves those who want to know when this process ends; `term` is 0 until it leads.
pub(super) async fn serve(listener: TcpListener, term: watch::Receiver<u64>) {
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(MOST));
    loop {
        let Ok(place) = std::sync::Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let term = term.clone();
                tokio::spawn(async move {
                    // Who has gone has gone.
                    let _ = greet(stream, term).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "nobody can be told when this process ends");
                sleep(AGAIN).await;
            }
        }
    }
}

async fn greet(mut stream: TcpStream, mut term: watch::Receiver<u64>) -> io::Result<()> {
    let gone = |()| io::Error::from(io::ErrorKind::NotConnected);
    let said = *term
        .wait_for(|term| *term != 0)
        .await
        .map_err(|_| gone(()))?;
    stream.write_u64(said).await?;
    // Until the other one goes.
    stream.read_u8().await.map(drop)
}

/// Returns when the process that leads in this term, which serves `address`, has ended.
pub(super) async fn ended(address: SocketAddr, term: u64) {
    loop {
        let stream = timeout(AGAIN, TcpStream::connect(address)).await;
        if let Ok(Ok(mut stream)) = stream
            && matches!(stream.read_u64().await, Ok(said) if said == term)
        {
            match stream.read_u8().await {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                    ) =>
                {
                    return;
                }
                Ok(_) | Err(_) => {}
            }
        }
        sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hears the term, if it is told soon.
    async fn hears(stream: &mut TcpStream) -> Option<u64> {
        timeout(AGAIN, stream.read_u64()).await.ok()?.ok()
    }

    #[test]
    fn so_many_connections_are_served_and_others_wait() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (_leads, term) = watch::channel(7);
            tokio::spawn(serve(listener, term));
            let mut served = Vec::new();
            for _ in 0..MOST {
                let mut stream = TcpStream::connect(address).await.unwrap();
                assert_eq!(hears(&mut stream).await, Some(7));
                served.push(stream);
            }
            let mut late = TcpStream::connect(address).await.unwrap();
            assert_eq!(hears(&mut late).await, None);
            served.pop();
            assert_eq!(hears(&mut late).await, Some(7));
        });
    }
}
