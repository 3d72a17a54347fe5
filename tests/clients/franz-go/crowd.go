package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// holdings is who of a crowd has which partitions of a topic.
type holdings struct {
	mutex   sync.Mutex
	topic   string
	members []map[int32]bool
}

func (h *holdings) change(member int, partitions []int32, held bool) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for _, partition := range partitions {
		if held {
			h.members[member][partition] = true
		} else {
			delete(h.members[member], partition)
		}
	}
}

// settled says whether every partition is with exactly one member, and each has its share.
func (h *holdings) settled(partitions int) bool {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	owned, all := map[int32]bool{}, 0
	for _, member := range h.members {
		if len(member) < partitions/len(h.members) {
			return false
		}
		all += len(member)
		for partition := range member {
			owned[partition] = true
		}
	}
	return all == partitions && len(owned) == partitions
}

// gather makes many members of one group, all at once, and waits until they share the topic: it
// answers with how many milliseconds that took.
func (d *driver) gather(ctx context.Context, a map[string]string) (string, error) {
	members, partitions := number(a["members"]), number(a["partitions"])
	held := &holdings{topic: a["topic"], members: make([]map[int32]bool, members)}
	began := time.Now()
	for member := range members {
		held.members[member] = map[int32]bool{}
		change := func(to bool) func(context.Context, *kgo.Client, map[string][]int32) {
			return func(_ context.Context, _ *kgo.Client, topics map[string][]int32) {
				held.change(member, topics[held.topic], to)
			}
		}
		client, err := d.client(
			kgo.ConsumerGroup(a["group"]),
			kgo.ConsumeTopics(held.topic),
			kgo.Balancers(kgo.RangeBalancer()),
			kgo.DisableAutoCommit(),
			kgo.SessionTimeout(30*time.Second),
			kgo.OnPartitionsAssigned(change(true)),
			kgo.OnPartitionsRevoked(change(false)),
			kgo.OnPartitionsLost(change(false)),
		)
		if err != nil {
			return "", err
		}
		d.crowd = append(d.crowd, client)
	}
	for !held.settled(partitions) {
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%d members do not come to share %d partitions", members, partitions)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return strconv.FormatInt(time.Since(began).Milliseconds(), 10), nil
}

// disperse ends the crowd: all leave at once.
func (d *driver) disperse() error {
	var leaving sync.WaitGroup
	for _, client := range d.crowd {
		leaving.Add(1)
		go func() {
			defer leaving.Done()
			client.Close()
		}()
	}
	leaving.Wait()
	d.crowd = nil
	return nil
}
