// kafkajs as one of the clients of the matrix: ../README.md says what it is asked, and
// tests/src/history/event.rs what it writes down.
//
// It has no partitions assigned by hand: what is read from the beginning to the end is read by a
// group of its own.

const fs = require('node:fs')
const readline = require('node:readline')
const {
  AssignerProtocol,
  CompressionCodecs,
  CompressionTypes,
  ConfigResourceTypes,
  Kafka,
  KafkaJSProtocolError,
  logLevel,
} = require('kafkajs')
const lz4 = require('lz4-napi')
const zstd = require('@bokuweb/zstd-wasm')

const DEADLINE_MS = 60_000
const FIRST_TIMESTAMP_MS = 1_700_000_000_000

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
})
const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

class Unsupported extends Error {}

// Who to be, over TLS and by SCRAM-SHA-256, where the environment says so.
function credentials() {
  const { DRIVER_USER: username, DRIVER_PASSWORD: password, DRIVER_CA_FILE: file } = process.env
  if (!username) return {}
  return {
    ssl: { ca: [fs.readFileSync(file, 'utf8')] },
    sasl: { mechanism: 'scram-sha-256', username, password },
  }
}

// Microseconds of the machine's monotonic clock.
const now = () => Number(process.hrtime.bigint() / 1000n)

class History {
  constructor(path) {
    this.file = fs.openSync(path, 'a')
  }

  write(op, fields) {
    fs.writeSync(this.file, JSON.stringify({ at: now(), op, ...fields }) + '\n')
  }
}

const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

async function within(condition, what) {
  const deadline = Date.now() + DEADLINE_MS
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${DEADLINE_MS} ms`)
    await pause(20)
  }
}

const settingsOf = text =>
  text
    .split(',')
    .filter(Boolean)
    .map(setting => setting.split('='))

class Driver {
  constructor(bootstrap, history) {
    this.history = history
    this.kafka = new Kafka({
      clientId: 'matrix',
      brokers: bootstrap.split(','),
      logLevel: logLevel.NOTHING,
      ...credentials(),
    })
    this.members = new Map()
  }

  version() {
    return require('kafkajs/package.json').version
  }

  async produce({ topic, partitions, producer, first, count, codec, idempotent, headers, timestamps }) {
    const client = this.kafka.producer({
      idempotent: Boolean(idempotent),
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
    })
    await client.connect()
    try {
      const byPartition = new Map()
      for (let number = Number(first); number < Number(first) + Number(count); number++) {
        const id = `${producer}/${number}`
        const partition = number % Number(partitions)
        const message = { key: `k${number % 7}`, value: `${id} ${'x'.repeat(40)}`, partition }
        const sent = { id, topic, partition, key: message.key }
        if (headers) sent.headers = message.headers = { number: String(number) }
        if (timestamps) {
          sent.timestamp = FIRST_TIMESTAMP_MS + number
          message.timestamp = String(sent.timestamp)
        }
        this.history.write('sent', sent)
        if (!byPartition.has(partition)) byPartition.set(partition, { ids: [], messages: [] })
        byPartition.get(partition).ids.push(id)
        byPartition.get(partition).messages.push(message)
      }
      const messages = [...byPartition.values()].flatMap(batch => batch.messages)
      const answers = await client.send({
        topic,
        messages,
        acks: -1,
        compression: CODECS[codec ?? 'none'],
      })
      for (const { partition, baseOffset, errorCode } of answers) {
        if (errorCode) throw new Error(`partition ${partition} is refused with ${errorCode}`)
        byPartition.get(partition).ids.forEach((id, index) => {
          const offset = Number(baseOffset) + index
          this.history.write('acknowledged', { id, topic, partition, offset })
        })
      }
    } finally {
      await client.disconnect()
    }
  }

  async consume({ topic, group }) {
    const since = now()
    const ends = await this.withAdmin(admin => admin.fetchTopicOffsets(topic))
    const next = new Map()
    const seen = (partition, offset) => next.set(partition, offset + 1)
    const member = await this.live({ group: `${group}-${process.pid}`, as: group, member: group, topic, seen })
    const reached = () =>
      ends.every(({ partition, high }) => (next.get(partition) ?? 0) >= Number(high))
    try {
      await within(reached, `reading ${topic} to its end`)
    } finally {
      await member.disconnect()
    }
    for (const { partition, high } of ends) {
      this.history.write('ended', { group, topic, partition, offset: Number(high), since })
    }
  }

  // A consumer of a group, which writes what it is given, and commits it unless somebody else
  // wants to see it.
  async live({ group, as, member, topic, seen }) {
    const client = this.kafka.consumer({
      groupId: group,
      sessionTimeout: 6000,
      heartbeatInterval: 500,
      maxWaitTimeInMs: 200,
      metadataMaxAge: 1000,
      retry: { initialRetryTime: 100, maxRetryTime: 1000, retries: 100 },
    })
    const who = { group: as, member }
    client.on(client.events.GROUP_JOIN, ({ payload }) => {
      for (const [name, partitions] of Object.entries(payload.memberAssignment)) {
        for (const partition of partitions) {
          this.history.write('assigned', { ...who, topic: name, partition })
        }
      }
    })
    await client.connect()
    await client.subscribe({ topics: [topic], fromBeginning: true })
    await client.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      eachBatch: async ({ batch, resolveOffset, heartbeat, isRunning, isStale }) => {
        const place = { topic: batch.topic, partition: batch.partition }
        // A batch that came before a rebalance is not this member's any more.
        if (!isRunning() || isStale() || batch.isEmpty()) return
        for (const message of batch.messages) {
          const headers = Object.entries(message.headers ?? {})
          this.history.write('read', {
            ...who,
            ...place,
            offset: Number(message.offset),
            id: message.value?.toString().split(' ', 1)[0] ?? '',
            key: message.key?.toString(),
            timestamp: Number(message.timestamp),
            headers: Object.fromEntries(headers.map(([name, value]) => [name, value?.toString()])),
          })
          resolveOffset(message.offset)
        }
        const offset = Number(batch.lastOffset()) + 1
        if (seen) return seen(batch.partition, offset - 1)
        this.history.write('committing', { ...who, ...place, offset })
        await client.commitOffsets([{ ...place, offset: String(offset) }])
        this.history.write('committed', { ...who, ...place, offset })
        await heartbeat()
      },
    })
    return client
  }

  async join({ group, member, topic }) {
    this.member = await this.live({ group, as: group, member, topic })
  }

  async leave() {
    await this.member.disconnect()
  }

  async withAdmin(ask) {
    const admin = this.kafka.admin()
    await admin.connect()
    try {
      return await ask(admin)
    } finally {
      await admin.disconnect()
    }
  }

  async committed({ group, topic }) {
    const since = now()
    const [{ partitions }] = await this.withAdmin(admin =>
      admin.fetchOffsets({ groupId: group, topics: [topic] })
    )
    partitions.sort((a, b) => a.partition - b.partition)
    for (const { partition, offset } of partitions) {
      this.history.write('told', { group, topic, partition, offset: Number(offset), since })
    }
    return partitions.map(({ offset }) => offset).join(',')
  }

  async create({ topic, partitions, settings }) {
    const configEntries = settingsOf(settings ?? '').map(([name, value]) => ({ name, value }))
    const topics = [
      { topic, numPartitions: Number(partitions), replicationFactor: 1, configEntries },
    ]
    const made = await this.withAdmin(admin => admin.createTopics({ topics, waitForLeaders: true }))
    if (!made) throw new Error(`${topic} exists`)
  }

  async describe({ topic }) {
    const found = await this.withAdmin(admin => admin.fetchTopicMetadata({ topics: [topic] }))
    return found.topics[0].partitions.length
  }

  async topics() {
    return (await this.withAdmin(admin => admin.listTopics())).join(',')
  }

  async delete({ topic }) {
    await this.withAdmin(admin => admin.deleteTopics({ topics: [topic] }))
  }

  async config({ topic, name }) {
    const resources = [{ type: ConfigResourceTypes.TOPIC, name: topic }]
    const found = await this.withAdmin(admin =>
      admin.describeConfigs({ resources, includeSynonyms: false })
    )
    return found.resources[0].configEntries.find(entry => entry.configName === name).configValue
  }

  async alter({ topic, name, value }) {
    const configEntries = [{ name, value }]
    const resources = [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries }]
    await this.withAdmin(admin => admin.alterConfigs({ validateOnly: false, resources }))
  }

  async groups() {
    const { groups } = await this.withAdmin(admin => admin.listGroups())
    return groups.map(({ groupId }) => groupId).join(',')
  }

  async group({ group }) {
    const { groups } = await this.withAdmin(admin => admin.describeGroups([group]))
    return `${groups[0].state} ${groups[0].members.length}`
  }

  async delete_group({ group }) {
    await this.withAdmin(admin => admin.deleteGroups([group]))
  }
}

const VERBS = new Set(
  'version produce consume join leave committed create describe topics delete config alter groups group delete_group'.split(
    ' '
  )
)

async function answer(driver, line) {
  const [verb, ...words] = line.trim().split(/\s+/)
  try {
    if (!VERBS.has(verb)) throw new Unsupported(`${verb} is not in this driver`)
    const given = words.map(word => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)])
    const said = await driver[verb](Object.fromEntries(given))
    return said === undefined ? 'ok' : `ok ${said}`
  } catch (error) {
    if (error instanceof Unsupported) return `unsupported ${error.message}`
    console.error(error)
    return `failed ${error.name}: ${error.message}`.replaceAll('\n', ' ')
  }
}

async function main() {
  await zstd.init()
  const [bootstrap, path] = process.argv.slice(2)
  const driver = new Driver(bootstrap, new History(path))
  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (line.trim()) process.stdout.write((await answer(driver, line)) + '\n')
  }
  process.exit(0)
}

main()
