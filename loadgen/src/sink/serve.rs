//! The sink's sockets: one blocking thread per connection.
//!
//! A Produce frame is summed chunk by chunk as it arrives, while the bytes are in the cache, and
//! answered when whole; answers to frames that arrived together leave together.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use ringlog_types::batch::HEADER_BYTES;

use crate::batch::template::CRC_FROM;
use crate::sink::answers::Answers;
use crate::sink::produce::{Lead, MAX_LEAD_BYTES, Responses, is_produce, parse_lead};

/// One receive call's room.
const CHUNK_BYTES: usize = 256 << 10;

/// Frames beyond this are no generator's.
const MAX_FRAME_BYTES: usize = 1 << 30;

/// What all connections share.
struct Sink {
    answers: Answers,
    ends: Mutex<BTreeMap<(String, i32), i64>>,
}

/// Listens on a free port of the loopback device; the threads end with the process.
pub fn start() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("listening on loopback")?;
    let address = listener
        .local_addr()
        .context("asking for the sink's own address")?;
    let sink = Arc::new(Sink {
        answers: Answers::new(address),
        ends: Mutex::default(),
    });
    spawn_acceptor("sink", listener, move |stream| serve(stream, &sink))?;
    Ok(address)
}

/// Listens on a free port and sends back what it gets: the loopback round trip.
pub fn start_echo() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("listening on loopback")?;
    let address = listener
        .local_addr()
        .context("asking for the echo's own address")?;
    spawn_acceptor("echo", listener, |mut stream| {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let read = stream.read(&mut bytes)?;
            if read == 0 {
                return Ok(());
            }
            stream.write_all(&bytes[..read])?;
        }
    })?;
    Ok(address)
}

fn spawn_acceptor(
    name: &'static str,
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> anyhow::Result<()> + Clone + Send + 'static,
) -> anyhow::Result<()> {
    let accept = move || {
        while let Ok((stream, _)) = listener.accept() {
            let serve = serve.clone();
            let connection = move || {
                // A generator that hangs up is done; anything else it will notice itself.
                if stream.set_nodelay(true).is_ok()
                    && let Err(error) = serve(stream)
                {
                    eprintln!("{name}: {error:#}");
                }
            };
            if std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(connection)
                .is_err()
            {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name(format!("{name}-accept"));
    thread
        .spawn(accept)
        .with_context(|| format!("starting the {name}"))?;
    Ok(())
}

/// The hidden subcommand: sink and echo in a process of their own, until standard input closes.
/// Their addresses go into `port_file`, one line each.
pub fn run_process(port_file: &Path) -> anyhow::Result<()> {
    let sink = start()?;
    let echo = start_echo()?;
    let part = port_file.with_extension("part");
    std::fs::write(&part, format!("{sink}\n{echo}\n")).context("writing the port file")?;
    std::fs::rename(&part, port_file).context("publishing the port file")?;
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())
        .context("waiting for the parent to let go")?;
    Ok(())
}

/// A Produce frame on its way in.
struct Arriving {
    lead: Lead,
    digest: Digest,
    /// CRC the batch claims.
    claimed: u32,
    /// Records bytes that are in.
    records_in: usize,
    /// Records in the batch, for the answer's offset.
    records: i64,
    /// Bytes of the frame still to come.
    rest: usize,
}

fn serve(mut stream: TcpStream, sink: &Sink) -> anyhow::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut held = 0;
    let mut arriving: Option<Box<Arriving>> = None;
    let mut responses = Responses::default();
    let mut out = Vec::new();
    loop {
        let read = match stream.read(&mut chunk[held..]) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error).context("receiving"),
        };
        let filled = held + read;
        let mut at = 0;
        loop {
            if let Some(frame) = &mut arriving {
                let take = frame.rest.min(filled - at);
                frame.take(&chunk[at..at + take]);
                at += take;
                if frame.rest > 0 {
                    break;
                }
                let frame = arriving.take().context("a frame is arriving")?;
                frame.finish(sink, &mut responses, &mut out)?;
                continue;
            }
            match begin(&chunk[at..filled])? {
                Begin::More => break,
                Begin::Produce(frame, used) => {
                    arriving = Some(frame);
                    at += used;
                }
                Begin::Whole(total) => {
                    let request = Bytes::copy_from_slice(&chunk[at + 4..at + total]);
                    out.extend_from_slice(&sink.answers.answer(request)?);
                    at += total;
                }
            }
        }
        chunk.copy_within(at..filled, 0);
        held = filled - at;
        if !out.is_empty() {
            stream.write_all(&out).context("answering")?;
            out.clear();
        }
    }
}

enum Begin {
    /// Not enough is there to tell.
    More,
    /// A Produce frame, of which this many bytes are dealt with.
    Produce(Box<Arriving>, usize),
    /// A whole other request, of this length with its length field.
    Whole(usize),
}

fn begin(bytes: &[u8]) -> anyhow::Result<Begin> {
    let Some(length) = bytes.first_chunk::<4>() else {
        return Ok(Begin::More);
    };
    let length = u32::from_be_bytes(*length) as usize;
    ensure!(length <= MAX_FRAME_BYTES, "a frame of {length} bytes");
    let frame = &bytes[4..];
    let enough = length.min(MAX_LEAD_BYTES + HEADER_BYTES);
    if frame.len() < enough {
        return Ok(Begin::More);
    }
    if !is_produce(frame) {
        ensure!(length + 4 <= CHUNK_BYTES, "a slow call of {length} bytes");
        return Ok(if frame.len() < length {
            Begin::More
        } else {
            Begin::Whole(length + 4)
        });
    }
    let lead = parse_lead(frame)?;
    let records = frame
        .get(lead.records_at..)
        .context("a lead within its limit")?;
    let header = records
        .get(..HEADER_BYTES)
        .context("a batch has a header")?;
    let mut count = [0; 4];
    count.copy_from_slice(&header[57..61]);
    let mut crc = [0; 4];
    crc.copy_from_slice(&header[17..21]);
    let used = 4 + lead.records_at + CRC_FROM;
    let arriving = Box::new(Arriving {
        digest: Digest::new(CrcAlgorithm::Crc32Iscsi),
        claimed: u32::from_be_bytes(crc),
        records_in: CRC_FROM,
        records: i64::from(i32::from_be_bytes(count)),
        rest: length + 4 - used,
        lead,
    });
    Ok(Begin::Produce(arriving, used))
}

impl Arriving {
    fn take(&mut self, bytes: &[u8]) {
        let summed = bytes.len().min(self.lead.records_bytes - self.records_in);
        self.digest.update(&bytes[..summed]);
        self.records_in += summed;
        self.rest -= bytes.len();
    }

    fn finish(
        self,
        sink: &Sink,
        responses: &mut Responses,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let found = self.digest.finalize();
        ensure!(
            found == u64::from(self.claimed),
            "a batch's CRC does not match its bytes"
        );
        let base_offset = {
            let mut ends = sink.ends.lock().unwrap_or_else(PoisonError::into_inner);
            let end = match ends.get_mut(&(self.lead.topic.clone(), self.lead.partition)) {
                Some(end) => end,
                None => ends
                    .entry((self.lead.topic.clone(), self.lead.partition))
                    .or_default(),
            };
            let base = *end;
            *end += self.records;
            base
        };
        if self.lead.acks == 0 {
            return Ok(());
        }
        responses.append(out, &self.lead, base_offset)
    }
}
