//! Stands before a server: hands on what it is asked, and does to the answers what a test says. Of HTTP it
//! sees whole requests, of anything else bytes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::servers::mock::{Mock, Request};

/// What happens to an answer.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Nothing,
    Late(Duration),
    /// It never comes.
    Hang,
    /// The connection ends in its middle.
    Cut,
    /// It has half of its body, and says that this is all.
    Short,
    /// A bit of its body is another.
    Flip,
    /// There is another, with this status.
    Says(&'static str),
}

/// `fault` decides by how many requests there were before, and by the request.
pub fn start(server: u16, fault: impl Fn(usize, &Request) -> Fault + Send + Sync + 'static) -> Mock {
    let number = AtomicUsize::new(0);
    Mock::start(move |request, client| {
        let fault = fault(number.fetch_add(1, Ordering::SeqCst), request);
        // Who asked may be gone by now.
        let _ = answer(server, fault, request, client);
    })
}

fn answer(server: u16, fault: Fault, request: &Request, client: &mut TcpStream) -> std::io::Result<()> {
    match fault {
        Fault::Hang => return client.read(&mut [0]).map(drop),
        Fault::Says(status) => {
            let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            return client.write_all(head.as_bytes());
        }
        Fault::Late(delay) => thread::sleep(delay),
        Fault::Nothing | Fault::Cut | Fault::Short | Fault::Flip => {}
    }
    let answer = ask(server, request)?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let (head, body) = answer.split_at(end);
    match fault {
        Fault::Cut if body.is_empty() => client.write_all(&head[..head.len() / 2]),
        Fault::Cut => client.write_all(&answer[..end + body.len() / 2]),
        Fault::Short => {
            let head = String::from_utf8_lossy(head).to_lowercase();
            let half = body.len() / 2;
            let length = |length: usize| format!("content-length: {length}\r\n");
            client.write_all(head.replace(&length(body.len()), &length(half)).as_bytes())?;
            client.write_all(&body[..half])
        }
        Fault::Flip => {
            let mut body = body.to_vec();
            if let Some(last) = body.last_mut() {
                *last ^= 1;
            }
            client.write_all(head)?;
            client.write_all(&body)
        }
        _ => client.write_all(&answer),
    }
}

/// The server's whole answer.
fn ask(server: u16, request: &Request) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server))?;
    let headers = request.headers.iter().filter(|line| !line.starts_with("connection:"));
    let lines: Vec<&str> = std::iter::once(&request.line).chain(headers).map(String::as_str).collect();
    stream.write_all(format!("{}\r\nconnection: close\r\n\r\n", lines.join("\r\n")).as_bytes())?;
    stream.write_all(&request.body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// What becomes of a connection that nobody looks into.
#[derive(Clone, Copy, Debug)]
pub enum Line {
    /// It is taken, and nothing ever comes.
    Silent,
    /// It breaks once the server has sent so many bytes over all connections, and so do those after it.
    Ends(u64),
    /// After so many bytes each has a bit that is another.
    Flips(u64),
}

/// A proxy for whatever runs over TCP.
pub struct Tcp {
    pub port: u16,
    connections: Arc<AtomicUsize>,
}

impl Tcp {
    /// Ends with the process: its threads sleep until somebody connects.
    pub fn start(server: u16, line: Line) -> Tcp {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let sent = Arc::clone(&sent);
                thread::spawn(move || {
                    // Either side may be gone.
                    let _ = connect(server, line, client, &sent);
                });
            }
        });
        Tcp { port, connections }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn connect(server: u16, line: Line, mut client: TcpStream, sent: &AtomicU64) -> std::io::Result<()> {
    if matches!(line, Line::Silent) {
        return std::io::copy(&mut client, &mut std::io::sink()).map(drop);
    }
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server))?;
    let (mut asks, mut asked) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut asks, &mut asked);
        let _ = asked.shutdown(Shutdown::Write);
    });
    let mut buffer = [0; 4096];
    loop {
        let count = server.read(&mut buffer)?;
        let so_far = sent.fetch_add(count as u64, Ordering::SeqCst);
        match line {
            _ if count == 0 => return client.shutdown(Shutdown::Both),
            Line::Ends(after) if so_far > after => {
                server.shutdown(Shutdown::Both)?;
                return client.shutdown(Shutdown::Both);
            }
            Line::Flips(after) if so_far > after => buffer[count - 1] ^= 1,
            _ => {}
        }
        client.write_all(&buffer[..count])?;
    }
}
