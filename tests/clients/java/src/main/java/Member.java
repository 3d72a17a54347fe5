import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/** A member of a group, on a thread of its own: it commits whatever it reads. */
final class Member implements Runnable {
    private final Map<String, Object> settings;
    private final History history;
    private final String group;
    private final String name;
    private final String topic;
    private volatile boolean leaving;

    Member(Map<String, Object> common, History history, String group, String name, String topic) {
        settings = new HashMap<>(common);
        settings.put("group.id", group);
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("session.timeout.ms", "6000");
        settings.put("heartbeat.interval.ms", "500");
        settings.put("metadata.max.age.ms", "1000");
        settings.put("reconnect.backoff.max.ms", "500");
        settings.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor");
        this.history = history;
        this.group = group;
        this.name = name;
        this.topic = topic;
    }

    void leave() {
        leaving = true;
    }

    @Override
    public void run() {
        try (KafkaConsumer<String, String> client =
                new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            client.subscribe(List.of(topic), new Noting());
            while (!leaving) {
                read(client);
            }
        }
    }

    private void read(KafkaConsumer<String, String> client) {
        Map<TopicPartition, OffsetAndMetadata> reached = new HashMap<>();
        for (ConsumerRecord<String, String> record : client.poll(Duration.ofMillis(100))) {
            history.read(group, name, record);
            TopicPartition place = new TopicPartition(record.topic(), record.partition());
            reached.put(place, new OffsetAndMetadata(record.offset() + 1));
        }
        if (reached.isEmpty()) {
            return;
        }
        reached.forEach((place, next) -> history.member("committing", group, name, place, next.offset()));
        try {
            client.commitSync(reached, Duration.ofSeconds(20));
        } catch (KafkaException refused) {
            // The group is rebalancing, or its node is away: what was read comes again.
            System.err.println("committing: " + refused);
            return;
        }
        reached.forEach((place, next) -> history.member("committed", group, name, place, next.offset()));
    }

    private final class Noting implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> assigned) {
            assigned.forEach(place -> history.member("assigned", group, name, place, -1));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> revoked) {}
    }
}
