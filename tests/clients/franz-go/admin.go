package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
)

// administer does what an operator asks.
func (d *driver) administer(ctx context.Context, verb string, a map[string]string) (string, error) {
	client, err := d.client()
	if err != nil {
		return "", err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	topic, group := a["topic"], a["group"]
	switch verb {
	case "committed":
		return d.committed(ctx, admin, group, topic, number(a["partitions"]))
	case "create":
		settings := map[string]*string{}
		for _, setting := range strings.FieldsFunc(a["settings"], func(r rune) bool { return r == ',' }) {
			name, value, _ := strings.Cut(setting, "=")
			settings[name] = &value
		}
		_, err := admin.CreateTopic(ctx, int32(number(a["partitions"])), 1, settings, topic)
		return "", err
	case "describe":
		found, err := admin.ListTopics(ctx, topic)
		if err == nil {
			err = found.Error()
		}
		return strconv.Itoa(len(found[topic].Partitions)), err
	case "topics":
		found, err := admin.ListTopics(ctx)
		return strings.Join(found.Names(), ","), err
	case "delete":
		_, err := admin.DeleteTopic(ctx, topic)
		return "", err
	case "config":
		return config(ctx, admin, topic, a["name"])
	case "alter":
		value := a["value"]
		set := kadm.AlterConfig{Op: kadm.SetConfig, Name: a["name"], Value: &value}
		answers, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{set}, topic)
		for _, answer := range answers {
			if answer.Err != nil {
				return "", answer.Err
			}
		}
		return "", err
	case "groups":
		found, err := admin.ListGroups(ctx)
		return strings.Join(found.Groups(), ","), err
	case "group":
		found, err := admin.DescribeGroups(ctx, group)
		if err == nil {
			err = found.Error()
		}
		return fmt.Sprintf("%s %d", found[group].State, len(found[group].Members)), err
	case "delete_group":
		_, err := admin.DeleteGroup(ctx, group)
		return "", err
	}
	return "", fmt.Errorf("%s is %w", verb, errUnsupported)
}

func (d *driver) committed(
	ctx context.Context, admin *kadm.Client, group, topic string, partitions int,
) (string, error) {
	since := now()
	found, err := admin.FetchOffsets(ctx, group)
	if err == nil {
		err = found.Error()
	}
	if err != nil {
		return "", err
	}
	var offsets []string
	for partition := range partitions {
		at := int64(-1)
		if one, exists := found.Lookup(topic, int32(partition)); exists {
			at = one.At
		}
		d.history.write("told", fields{
			"group": group, "topic": topic, "partition": partition, "offset": at, "since": since,
		})
		offsets = append(offsets, strconv.FormatInt(at, 10))
	}
	return strings.Join(offsets, ","), nil
}

func config(ctx context.Context, admin *kadm.Client, topic, name string) (string, error) {
	found, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return "", err
	}
	resource, err := found.On(topic, nil)
	if err == nil {
		err = resource.Err
	}
	if err != nil {
		return "", err
	}
	for _, entry := range resource.Configs {
		if entry.Key == name {
			return entry.MaybeValue(), nil
		}
	}
	return "", fmt.Errorf("%s has no %s", topic, name)
}
