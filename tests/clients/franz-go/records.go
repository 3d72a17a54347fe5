package main

import (
	"context"
	"fmt"
	"log"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	deadline         = 130 * time.Second
	firstTimestampMs = 1_700_000_000_000
)

type driver struct {
	brokers     []string
	credentials []kgo.Opt
	history     *history
	leave       context.CancelFunc
	left        chan struct{}
	crowd       []*kgo.Client
}

func (d *driver) client(options ...kgo.Opt) (*kgo.Client, error) {
	common := append([]kgo.Opt{kgo.SeedBrokers(d.brokers...)}, d.credentials...)
	return kgo.NewClient(append(common, options...)...)
}

func (d *driver) do(ctx context.Context, verb string, a map[string]string) (string, error) {
	switch verb {
	case "version":
		return version(), nil
	case "produce":
		return "", d.produce(ctx, a)
	case "consume":
		return "", d.consume(ctx, a)
	case "join":
		return "", d.join(a)
	case "leave":
		d.leave()
		<-d.left
		return "", nil
	case "crowd":
		return d.gather(ctx, a)
	case "disperse":
		return "", d.disperse()
	}
	return d.administer(ctx, verb, a)
}

func version() string {
	built, _ := debug.ReadBuildInfo()
	for _, module := range built.Deps {
		if module.Path == "github.com/twmb/franz-go" {
			return strings.TrimPrefix(module.Version, "v")
		}
	}
	return "unknown"
}

func codec(name string) kgo.CompressionCodec {
	switch name {
	case "gzip":
		return kgo.GzipCompression()
	case "snappy":
		return kgo.SnappyCompression()
	case "lz4":
		return kgo.Lz4Compression()
	case "zstd":
		return kgo.ZstdCompression()
	}
	return kgo.NoCompression()
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		panic(fmt.Sprintf("%q is not a number", text))
	}
	return value
}

func (d *driver) produce(ctx context.Context, a map[string]string) error {
	options := []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codec(a["codec"])),
		kgo.ProducerLinger(5 * time.Millisecond),
	}
	if a["idempotent"] == "" {
		options = append(options, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
	}
	client, err := d.client(options...)
	if err != nil {
		return err
	}
	defer client.Close()
	var records []*kgo.Record
	ids := map[*kgo.Record]string{}
	for n := number(a["first"]); n < number(a["first"])+number(a["count"]); n++ {
		id := fmt.Sprintf("%s/%d", a["producer"], n)
		record := &kgo.Record{
			Topic:     a["topic"],
			Partition: int32(n % number(a["partitions"])),
			Key:       []byte(fmt.Sprintf("k%d", n%7)),
			Value:     []byte(id + " " + strings.Repeat("x", 40)),
		}
		sent := fields{"id": id, "topic": record.Topic, "partition": record.Partition, "key": string(record.Key)}
		if a["headers"] != "" {
			record.Headers = []kgo.RecordHeader{{Key: "number", Value: []byte(strconv.Itoa(n))}}
			sent["headers"] = map[string]string{"number": strconv.Itoa(n)}
		}
		if a["timestamps"] != "" {
			sent["timestamp"] = firstTimestampMs + n
			record.Timestamp = time.UnixMilli(int64(firstTimestampMs + n))
		}
		d.history.write("sent", sent)
		ids[record] = id
		records = append(records, record)
	}
	for _, result := range client.ProduceSync(ctx, records...) {
		if result.Err != nil {
			return result.Err
		}
		d.history.write("acknowledged", fields{
			"id":        ids[result.Record],
			"topic":     result.Record.Topic,
			"partition": result.Record.Partition,
			"offset":    result.Record.Offset,
		})
	}
	return nil
}

func (d *driver) consume(ctx context.Context, a map[string]string) error {
	topic := a["topic"]
	starts := map[int32]kgo.Offset{}
	for partition := range number(a["partitions"]) {
		starts[int32(partition)] = kgo.NewOffset().At(0)
	}
	client, err := d.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}))
	if err != nil {
		return err
	}
	defer client.Close()
	since := now()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return err
	}
	w := who{a["group"], a["group"]}
	next := map[int32]int64{}
	ended := func() bool {
		for partition, end := range ends[topic] {
			if next[partition] < end.Offset {
				return false
			}
		}
		return true
	}
	for !ended() {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			d.history.read(w, record)
			next[record.Partition] = record.Offset + 1
		})
	}
	for partition, end := range ends[topic] {
		d.history.write("ended", fields{
			"group": w.group, "topic": topic, "partition": partition, "offset": end.Offset, "since": since,
		})
	}
	return nil
}

func (d *driver) join(a map[string]string) error {
	w := who{a["group"], a["member"]}
	client, err := d.client(
		kgo.ConsumerGroup(w.group),
		kgo.ConsumeTopics(a["topic"]),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(6*time.Second),
		kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.Balancers(kgo.RangeBalancer()),
		// A rebalance waits until what was polled is committed.
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
			for topic, partitions := range assigned {
				for _, partition := range partitions {
					d.history.place("assigned", w, topic, partition, nil)
				}
			}
		}),
	)
	if err != nil {
		return err
	}
	ctx, leave := context.WithCancel(context.Background())
	d.leave, d.left = leave, make(chan struct{})
	go func() {
		defer close(d.left)
		defer client.CloseAllowingRebalance()
		for ctx.Err() == nil {
			d.read(ctx, client, w)
		}
	}()
	return nil
}

// read reads what has come, and commits it.
func (d *driver) read(ctx context.Context, client *kgo.Client, w who) {
	defer client.AllowRebalance()
	fetches := client.PollFetches(ctx)
	fetches.EachError(func(topic string, partition int32, err error) {
		log.Printf("fetching %s[%d]: %v", topic, partition, err)
	})
	records := fetches.Records()
	reached := map[string]map[int32]int64{}
	for _, record := range records {
		d.history.read(w, record)
		if reached[record.Topic] == nil {
			reached[record.Topic] = map[int32]int64{}
		}
		reached[record.Topic][record.Partition] = record.Offset + 1
	}
	if len(records) == 0 {
		return
	}
	write := func(op string) {
		for topic, partitions := range reached {
			for partition, offset := range partitions {
				d.history.place(op, w, topic, partition, fields{"offset": offset})
			}
		}
	}
	write("committing")
	committing, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := client.CommitRecords(committing, records...); err != nil {
		// The group is rebalancing, or its node is away: what was read comes again.
		log.Printf("committing: %v", err)
		return
	}
	write("committed")
}
