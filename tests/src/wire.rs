//! A small Kafka client over a plain socket, for what no proper client would send. Only request
//! versions before the "flexible" ones, whose encoding is plain enough to be written out here.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use crate::deadline::PATIENCE;

/// Numbers of the requests used here.
pub mod api {
    /// Produce, used in version 7.
    pub const PRODUCE: i16 = 0;
    /// Fetch, used in version 4.
    pub const FETCH: i16 = 1;
    /// ListOffsets, used in version 1.
    pub const LIST_OFFSETS: i16 = 2;
    /// Metadata, used in version 4.
    pub const METADATA: i16 = 3;
    /// ApiVersions.
    pub const API_VERSIONS: i16 = 18;
    /// CreateTopics, used in version 2.
    pub const CREATE_TOPICS: i16 = 19;
    /// DeleteTopics, used in version 1.
    pub const DELETE_TOPICS: i16 = 20;
    /// DeleteRecords, used in version 0.
    pub const DELETE_RECORDS: i16 = 21;
    /// InitProducerId, used in version 0.
    pub const INIT_PRODUCER_ID: i16 = 22;
}

/// Error codes of the protocol that are met here.
pub mod error {
    /// None.
    pub const NONE: i16 = 0;
    /// A batch whose checksum or shape is wrong.
    pub const CORRUPT_MESSAGE: i16 = 2;
    /// No such topic or partition.
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    /// Another core leads the partition.
    pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
    /// A batch above `max.message.bytes`.
    pub const MESSAGE_TOO_LARGE: i16 = 10;
    /// A version that is not spoken.
    pub const UNSUPPORTED_VERSION: i16 = 35;
    /// A gap in an idempotent producer's sequence.
    pub const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    /// The log is closed, or full.
    pub const KAFKA_STORAGE_ERROR: i16 = 56;
    /// A codec that is not known.
    pub const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
    /// A batch that breaks a rule of its format.
    pub const INVALID_RECORD: i16 = 87;
}

/// Writes a request's fields.
#[derive(Debug, Default)]
pub struct Fields(Vec<u8>);

impl Fields {
    /// None yet.
    #[must_use]
    pub fn new() -> Fields {
        Fields::default()
    }

    /// One byte.
    #[must_use]
    pub fn i8(mut self, value: i8) -> Fields {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Two bytes.
    #[must_use]
    pub fn i16(mut self, value: i16) -> Fields {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Four bytes; also the length of an array.
    #[must_use]
    pub fn i32(mut self, value: i32) -> Fields {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Eight bytes.
    #[must_use]
    pub fn i64(mut self, value: i64) -> Fields {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// A string, or null.
    #[must_use]
    pub fn string(mut self, value: Option<&str>) -> Fields {
        match value {
            None => self.0.extend((-1_i16).to_be_bytes()),
            Some(text) => {
                let length = i16::try_from(text.len()).expect("a test's strings are short");
                self.0.extend(length.to_be_bytes());
                self.0.extend(text.as_bytes());
            }
        }
        self
    }

    /// Bytes with their length.
    #[must_use]
    pub fn bytes(mut self, value: &[u8]) -> Fields {
        let length = i32::try_from(value.len()).expect("a test's fields are small");
        self.0.extend(length.to_be_bytes());
        self.0.extend(value);
        self
    }

    /// Bytes as they are.
    #[must_use]
    pub fn raw(mut self, value: &[u8]) -> Fields {
        self.0.extend(value);
        self
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads an answer's fields.
#[derive(Debug)]
pub struct Answer {
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let field = self
            .bytes
            .get(self.at..self.at + N)
            .context("the answer ends early")?;
        self.at += N;
        Ok(field.try_into()?)
    }

    /// One byte.
    ///
    /// # Errors
    /// When the answer ends, as for all of these.
    pub fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.take()?))
    }

    /// Two bytes.
    ///
    /// # Errors
    /// When the answer ends.
    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.take()?))
    }

    /// Four bytes.
    ///
    /// # Errors
    /// When the answer ends.
    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// When the answer ends.
    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.take()?))
    }

    /// A string, or null.
    ///
    /// # Errors
    /// When the answer ends.
    pub fn string(&mut self) -> Result<Option<String>> {
        let Ok(length) = usize::try_from(self.i16()?) else {
            return Ok(None);
        };
        Ok(Some(String::from_utf8(self.slice(length)?.to_vec())?))
    }

    /// Bytes with their length; null as none.
    ///
    /// # Errors
    /// When the answer ends.
    pub fn bytes(&mut self) -> Result<Vec<u8>> {
        let length = usize::try_from(self.i32()?).unwrap_or(0);
        Ok(self.slice(length)?.to_vec())
    }

    fn slice(&mut self, length: usize) -> Result<&[u8]> {
        let slice = self
            .bytes
            .get(self.at..self.at + length)
            .context("the answer ends early")?;
        self.at += length;
        Ok(slice)
    }

    /// Everything that was not read.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }
}

/// How a produce request was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Produced {
    /// Error code.
    pub error: i16,
    /// First offset.
    pub base_offset: i64,
}

/// A topic as the metadata shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many it has.
    pub partitions: i32,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    correlation: i32,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection {
            stream,
            correlation: 0,
        })
    }

    /// This end's port: log lines name it.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn local_port(&self) -> Result<u16> {
        Ok(self.stream.local_addr()?.port())
    }

    /// Bytes as they are.
    ///
    /// # Errors
    /// When the peer has closed.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Bytes with their length before them.
    ///
    /// # Errors
    /// When the peer has closed.
    pub fn send_frame(&mut self, frame: &[u8]) -> Result<()> {
        self.send_bytes(&Fields::new().bytes(frame).finish())
    }

    /// Says that nothing more will be sent; answers can still come.
    ///
    /// # Errors
    /// When the peer has closed.
    pub fn shut_down_sending(&mut self) -> Result<()> {
        match self.stream.shutdown(Shutdown::Write) {
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            result => Ok(result?),
        }
    }

    /// A request with a header of version 1; returns its correlation id.
    ///
    /// # Errors
    /// When the peer has closed.
    pub fn send(&mut self, key: i16, version: i16, body: &[u8]) -> Result<i32> {
        self.correlation += 1;
        let header = Fields::new().i16(key).i16(version).i32(self.correlation);
        self.send_frame(&header.string(Some("ringlog-tests")).raw(body).finish())?;
        Ok(self.correlation)
    }

    /// The next frame; `None` when the peer has closed.
    ///
    /// # Errors
    /// When nothing comes within the deadline.
    pub fn receive(&mut self) -> Result<Option<Vec<u8>>> {
        let mut length = [0_u8; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if is_closed(&error) => return Ok(None),
            Err(error) => return Err(error).context("waiting for an answer"),
        }
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length))?];
        self.stream
            .read_exact(&mut frame)
            .context("reading an answer")?;
        Ok(Some(frame))
    }

    /// The answer to a request that was sent.
    ///
    /// # Errors
    /// When the peer closed, or answers something else.
    pub fn answer(&mut self, correlation: i32) -> Result<Answer> {
        let Some(bytes) = self.receive()? else {
            bail!("the connection was closed in place of an answer");
        };
        let mut answer = Answer { bytes, at: 0 };
        let found = answer.i32()?;
        ensure!(
            found == correlation,
            "answer {found}, expected {correlation}"
        );
        Ok(answer)
    }

    /// A request and its answer.
    ///
    /// # Errors
    /// When the peer closed, or answers something else.
    pub fn request(&mut self, key: i16, version: i16, body: &[u8]) -> Result<Answer> {
        let correlation = self.send(key, version, body)?;
        self.answer(correlation)
    }

    /// Waits until the peer closes; anything it sends before that is an error.
    ///
    /// # Errors
    /// When it does not close within the deadline.
    pub fn closed(&mut self) -> Result<()> {
        let mut byte = [0_u8; 1];
        match self.stream.read(&mut byte) {
            Ok(0) => Ok(()),
            Ok(_) => bail!("the peer sent something"),
            Err(error) if is_closed(&error) => Ok(()),
            Err(error) => Err(error).context("waiting for the peer to close"),
        }
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// When refused.
    pub fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<()> {
        let body = Fields::new()
            .i32(1)
            .string(Some(name))
            .i32(partitions)
            .i16(1)
            .i32(0);
        let count = i32::try_from(configs.len())?;
        let body = configs.iter().fold(body.i32(count), |body, (name, value)| {
            body.string(Some(name)).string(Some(value))
        });
        let body = body.i32(30_000).i8(0).finish();
        let mut answer = self.request(api::CREATE_TOPICS, 2, &body)?;
        let (_throttle, _count, _name) = (answer.i32()?, answer.i32()?, answer.string()?);
        let code = answer.i16()?;
        ensure!(
            code == error::NONE,
            "creating {name}: error {code} {:?}",
            answer.string()?
        );
        Ok(())
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// When refused.
    pub fn delete_topic(&mut self, name: &str) -> Result<()> {
        let body = Fields::new().i32(1).string(Some(name)).i32(30_000).finish();
        let mut answer = self.request(api::DELETE_TOPICS, 1, &body)?;
        let (_throttle, _count, _name) = (answer.i32()?, answer.i32()?, answer.string()?);
        let code = answer.i16()?;
        ensure!(code == error::NONE, "deleting {name}: error {code}");
        Ok(())
    }

    /// Every topic, by name.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn topics(&mut self) -> Result<Vec<Topic>> {
        // Version 4: a null array asks for all; nothing is to be created.
        let mut answer = self.request(api::METADATA, 4, &Fields::new().i32(-1).i8(0).finish())?;
        let _throttle = answer.i32()?;
        for _broker in 0..answer.i32()? {
            let (_id, _host, _port) = (answer.i32()?, answer.string()?, answer.i32()?);
            answer.string()?;
        }
        let (_cluster, _controller) = (answer.string()?, answer.i32()?);
        let mut topics = Vec::new();
        for _topic in 0..answer.i32()? {
            let (code, name, _internal) = (answer.i16()?, answer.string()?, answer.i8()?);
            ensure!(code == error::NONE, "topic {name:?}: error {code}");
            let partitions = answer.i32()?;
            for _partition in 0..partitions {
                let (_code, _index, _leader) = (answer.i16()?, answer.i32()?, answer.i32()?);
                for _replicas_then_in_sync in 0..2 {
                    for _replica in 0..answer.i32()? {
                        answer.i32()?;
                    }
                }
            }
            topics.push(Topic {
                name: name.context("a topic's name")?,
                partitions,
            });
        }
        topics.sort();
        Ok(topics)
    }

    /// A produce request's body for one partition.
    #[must_use]
    pub fn produce_body(topic: &str, partition: i32, acks: i16, records: &[u8]) -> Vec<u8> {
        let body = Fields::new()
            .string(None)
            .i16(acks)
            .i32(30_000)
            .i32(1)
            .string(Some(topic));
        body.i32(1).i32(partition).bytes(records).finish()
    }

    /// Produces record bytes, right or wrong, with acks=all.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn produce(&mut self, topic: &str, partition: i32, records: &[u8]) -> Result<Produced> {
        let body = Connection::produce_body(topic, partition, -1, records);
        let correlation = self.send(api::PRODUCE, 7, &body)?;
        self.produced(correlation)
    }

    /// The answer to a produce request of one partition.
    ///
    /// # Errors
    /// When there is none.
    pub fn produced(&mut self, correlation: i32) -> Result<Produced> {
        let mut answer = self.answer(correlation)?;
        ensure!(answer.i32()? == 1, "one topic");
        answer.string()?;
        ensure!(answer.i32()? == 1, "one partition");
        let _partition = answer.i32()?;
        Ok(Produced {
            error: answer.i16()?,
            base_offset: answer.i64()?,
        })
    }

    /// A fetch request's body for one partition: what is there now, up to 64 MiB.
    #[must_use]
    pub fn fetch_body(topic: &str, partition: i32, offset: i64) -> Vec<u8> {
        let body = Fields::new().i32(-1).i32(0).i32(1).i32(64 << 20).i8(0);
        let body = body
            .i32(1)
            .string(Some(topic))
            .i32(1)
            .i32(partition)
            .i64(offset);
        body.i32(64 << 20).finish()
    }

    /// Fetches record bytes of one partition: error code, high watermark, records.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(i16, i64, Vec<u8>)> {
        let body = Connection::fetch_body(topic, partition, offset);
        let mut answer = self.request(api::FETCH, 4, &body)?;
        let (_throttle, topics) = (answer.i32()?, answer.i32()?);
        ensure!(topics == 1, "one topic, {topics} found");
        answer.string()?;
        let (_count, _partition) = (answer.i32()?, answer.i32()?);
        let (code, high_watermark, _stable) = (answer.i16()?, answer.i64()?, answer.i64()?);
        for _aborted in 0..answer.i32()?.max(0) {
            answer.i64()?;
            answer.i64()?;
        }
        Ok((code, high_watermark, answer.bytes()?))
    }

    /// Where a partition's log starts (timestamp −2), ends (−1), or reaches a time: error code and
    /// offset.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn list_offset(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> Result<(i16, i64)> {
        let body = Fields::new().i32(-1).i32(1).string(Some(topic)).i32(1);
        let body = body.i32(partition).i64(timestamp).finish();
        let mut answer = self.request(api::LIST_OFFSETS, 1, &body)?;
        ensure!(answer.i32()? == 1, "one topic");
        answer.string()?;
        ensure!(answer.i32()? == 1, "one partition");
        let (_partition, code, _timestamp) = (answer.i32()?, answer.i16()?, answer.i64()?);
        Ok((code, answer.i64()?))
    }

    /// All values of a partition that holds uncompressed batches, with their offsets.
    ///
    /// # Errors
    /// When a fetch is refused.
    pub fn read_all(&mut self, topic: &str, partition: i32) -> Result<Vec<(i64, Vec<u8>)>> {
        let mut found: Vec<(i64, Vec<u8>)> = Vec::new();
        loop {
            let next = found.last().map_or(0, |(offset, _)| offset + 1);
            let (code, high_watermark, records) = self.fetch(topic, partition, next)?;
            ensure!(
                code == error::NONE,
                "fetching {topic}/{partition} at {next}: error {code}"
            );
            if next >= high_watermark {
                return Ok(found);
            }
            let values = crate::record_batch::values(&records);
            ensure!(
                !values.is_empty(),
                "nothing at {next} below {high_watermark}"
            );
            found.extend(values.into_iter().filter(|(offset, _)| *offset >= next));
        }
    }

    /// A producer id and its epoch.
    ///
    /// # Errors
    /// When refused.
    pub fn producer_id(&mut self) -> Result<(i64, i16)> {
        let body = Fields::new().string(None).i32(60_000).finish();
        let mut answer = self.request(api::INIT_PRODUCER_ID, 0, &body)?;
        let (_throttle, code) = (answer.i32()?, answer.i16()?);
        ensure!(code == error::NONE, "InitProducerId: error {code}");
        Ok((answer.i64()?, answer.i16()?))
    }
}

/// A reset counts: the peer closed while bytes it had not read lay in its socket.
fn is_closed(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}
