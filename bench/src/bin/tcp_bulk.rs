//! One bulk transfer over kernel TCP, beside which raet's is reported (see `goodput`).
//!
//! `serve` takes transfers one after the other, checks each word of what came, and answers with
//! the number of bytes; `run` sends, waits for that answer, and prints a line of JSON. Time counts
//! from an open connection to the answer, as raet's counts from an open session to the last
//! outcome.
#![expect(unsafe_code, reason = "congestion control is chosen by a socket option that std lacks")]

use std::io::{self, BufWriter, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};

/// Sends or receives bulk data over TCP.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Takes transfers until it is ended; prints a line when it listens.
    Serve {
        /// Where to listen.
        #[arg(long)]
        bind: SocketAddr,
    },
    /// Sends one transfer.
    Run {
        /// Where `serve` listens.
        #[arg(long)]
        connect: SocketAddr,
        /// Bytes to send; a multiple of 8.
        #[arg(long)]
        bytes: u64,
        /// Congestion control, as the kernel names it.
        #[arg(long, default_value = "cubic")]
        congestion: String,
    },
}

/// Bytes of one write or read.
const CHUNK_LEN: usize = 65_536;

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve { bind } => serve(bind),
        Command::Run { connect, bytes, congestion } => send(connect, bytes, &congestion),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcp_bulk: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(bind: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(bind)?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept()?;
        if let Err(error) = take(&stream) {
            eprintln!("tcp_bulk: a transfer ended early: {error}");
        }
    }
}

/// Takes one transfer to its end. A wrong word ends it without an answer.
fn take(mut stream: &TcpStream) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_LEN];
    let (mut words, mut held) = (0_u64, 0);
    loop {
        let len = stream.read(&mut chunk[held..])?;
        if len == 0 {
            break;
        }
        held += len;
        let whole = held / 8 * 8;
        for word in chunk[..whole].chunks_exact(8) {
            if word != words.to_le_bytes() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a word is wrong"));
            }
            words += 1;
        }
        chunk.copy_within(whole..held, 0);
        held -= whole;
    }
    stream.write_all(&(words * 8).to_le_bytes())
}

fn send(connect: SocketAddr, bytes: u64, congestion: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(connect)?;
    choose_congestion(&stream, congestion)?;
    let started = Instant::now();
    let mut writer = BufWriter::with_capacity(CHUNK_LEN, &stream);
    for word in 0..bytes / 8 {
        writer.write_all(&word.to_le_bytes())?;
    }
    writer.flush()?;
    drop(writer);
    stream.shutdown(Shutdown::Write)?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)?;
    let seconds = started.elapsed().as_secs_f64();
    if u64::from_le_bytes(answer) != bytes / 8 * 8 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes are missing"));
    }
    let rate = bytes as f64 / seconds;
    println!("{{\"bytes\":{bytes},\"seconds\":{seconds},\"payload_bytes_per_second\":{rate}}}");
    Ok(())
}

fn choose_congestion(stream: &TcpStream, name: &str) -> io::Result<()> {
    let len = u32::try_from(name.len()).expect("a name from the command line");
    // SAFETY: the kernel reads `len` bytes from the name that we borrow.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            len,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
