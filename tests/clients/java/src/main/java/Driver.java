import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/**
 * The Java client as one of the clients of the matrix: ../README.md says what it is asked, and
 * tests/src/history/event.rs what it writes down.
 */
public final class Driver {
    private static final long DEADLINE_SECONDS = 60;
    private static final long FIRST_TIMESTAMP_MS = 1_700_000_000_000L;

    private final Map<String, Object> servers;
    private final History history;
    private Member member;
    private Thread living;

    private Driver(String bootstrap, History history) {
        servers = new HashMap<>(credentials());
        servers.put("bootstrap.servers", bootstrap);
        this.history = history;
    }

    /** Who to be, over TLS and by SCRAM-SHA-256, where the environment says so. */
    private static Map<String, Object> credentials() {
        String user = System.getenv("DRIVER_USER");
        if (user == null) {
            return Map.of();
        }
        String login = "org.apache.kafka.common.security.scram.ScramLoginModule";
        String password = System.getenv("DRIVER_PASSWORD");
        return Map.of(
                "security.protocol", "SASL_SSL",
                "ssl.truststore.type", "PEM",
                "ssl.truststore.location", System.getenv("DRIVER_CA_FILE"),
                "sasl.mechanism", "SCRAM-SHA-256",
                "sasl.jaas.config",
                        login + " required username=\"" + user + "\" password=\"" + password + "\";");
    }

    public static void main(String[] arguments) throws Exception {
        Driver driver = new Driver(arguments[0], new History(arguments[1]));
        BufferedReader lines =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            if (!line.isBlank()) {
                System.out.println(driver.answer(line.strip()));
            }
        }
    }

    private String answer(String line) {
        List<String> words = Arrays.asList(line.split("\\s+"));
        Map<String, String> given = words.stream()
                .skip(1)
                .map(word -> word.split("=", 2))
                .collect(Collectors.toMap(pair -> pair[0], pair -> pair[1]));
        try {
            return ("ok " + perform(words.get(0), given)).stripTrailing();
        } catch (UnsupportedOperationException unsupported) {
            return "unsupported " + unsupported.getMessage();
        } catch (Exception error) {
            error.printStackTrace();
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            return ("failed " + cause).replace('\n', ' ');
        }
    }

    private String perform(String verb, Map<String, String> a) throws Exception {
        switch (verb) {
            case "version":
                return AppInfoParser.getVersion();
            case "produce":
                produce(a);
                return "";
            case "consume":
                consume(a.get("topic"), Integer.parseInt(a.get("partitions")), a.get("group"));
                return "";
            case "join":
                member = new Member(servers, history, a.get("group"), a.get("member"), a.get("topic"));
                living = new Thread(member);
                living.start();
                return "";
            case "leave":
                member.leave();
                living.join(TimeUnit.SECONDS.toMillis(DEADLINE_SECONDS));
                if (living.isAlive()) {
                    throw new IllegalStateException("the member does not leave");
                }
                return "";
            default:
                try (Admin admin = Admin.create(servers)) {
                    return administer(admin, verb, a);
                }
        }
    }

    private void produce(Map<String, String> a) throws Exception {
        Map<String, Object> settings = new HashMap<>(servers);
        settings.put("acks", "all");
        settings.put("compression.type", a.getOrDefault("codec", "none"));
        settings.put("enable.idempotence", String.valueOf(a.containsKey("idempotent")));
        settings.put("linger.ms", "5");
        String topic = a.get("topic");
        int partitions = Integer.parseInt(a.get("partitions"));
        int first = Integer.parseInt(a.get("first"));
        Map<String, Future<RecordMetadata>> waiting = new LinkedHashMap<>();
        try (KafkaProducer<String, String> client =
                new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int number = first; number < first + Integer.parseInt(a.get("count")); number++) {
                String id = a.get("producer") + "/" + number;
                Long timestamp = a.containsKey("timestamps") ? FIRST_TIMESTAMP_MS + number : null;
                ProducerRecord<String, String> record = new ProducerRecord<>(
                        topic, number % partitions, timestamp, "k" + number % 7, id + " " + "x".repeat(40));
                Map<String, Object> sent = new LinkedHashMap<>();
                sent.put("id", id);
                sent.put("topic", topic);
                sent.put("partition", record.partition());
                sent.put("key", record.key());
                if (a.containsKey("headers")) {
                    String text = String.valueOf(number);
                    record.headers().add("number", text.getBytes(StandardCharsets.UTF_8));
                    sent.put("headers", Map.of("number", text));
                }
                if (timestamp != null) {
                    sent.put("timestamp", timestamp);
                }
                history.write("sent", sent);
                waiting.put(id, client.send(record));
            }
            for (Map.Entry<String, Future<RecordMetadata>> one : waiting.entrySet()) {
                RecordMetadata place = one.getValue().get(130, TimeUnit.SECONDS);
                history.acknowledged(
                        one.getKey(), new TopicPartition(topic, place.partition()), place.offset());
            }
        }
    }

    private void consume(String topic, int partitions, String group) {
        Map<String, Object> settings = new HashMap<>(servers);
        settings.put("enable.auto.commit", "false");
        List<TopicPartition> places = places(topic, partitions);
        try (KafkaConsumer<String, String> client =
                new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            client.assign(places);
            client.seekToBeginning(places);
            long since = History.now();
            Map<TopicPartition, Long> ends = client.endOffsets(places);
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(DEADLINE_SECONDS);
            while (places.stream().anyMatch(place -> client.position(place) < ends.get(place))) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("reading " + topic + " to its end takes too long");
                }
                for (ConsumerRecord<String, String> record : client.poll(Duration.ofMillis(500))) {
                    history.read(group, group, record);
                }
            }
            ends.forEach((place, end) -> history.learned("ended", group, place, end, since));
        }
    }

    private String administer(Admin admin, String verb, Map<String, String> a) throws Exception {
        String topic = a.get("topic");
        String group = a.get("group");
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic == null ? "" : topic);
        switch (verb) {
            case "committed":
                return committed(admin, group, places(topic, Integer.parseInt(a.get("partitions"))));
            case "create":
                Map<String, String> configs = new HashMap<>();
                for (String setting : a.getOrDefault("settings", "").split(",")) {
                    if (!setting.isEmpty()) {
                        configs.put(setting.split("=", 2)[0], setting.split("=", 2)[1]);
                    }
                }
                NewTopic made = new NewTopic(topic, Integer.parseInt(a.get("partitions")), (short) 1);
                wait(admin.createTopics(List.of(made.configs(configs))).all());
                return "";
            case "describe":
                var described = wait(admin.describeTopics(List.of(topic)).allTopicNames());
                return String.valueOf(described.get(topic).partitions().size());
            case "topics":
                return String.join(",", wait(admin.listTopics().names()));
            case "delete":
                wait(admin.deleteTopics(List.of(topic)).all());
                return "";
            case "config":
                var found = wait(admin.describeConfigs(List.of(resource)).all());
                return found.get(resource).get(a.get("name")).value();
            case "alter":
                ConfigEntry entry = new ConfigEntry(a.get("name"), a.get("value"));
                var set = List.of(new AlterConfigOp(entry, AlterConfigOp.OpType.SET));
                wait(admin.incrementalAlterConfigs(Map.of(resource, set)).all());
                return "";
            case "groups":
                List<String> names = new ArrayList<>();
                for (GroupListing listing : wait(admin.listGroups().all())) {
                    names.add(listing.groupId());
                }
                return String.join(",", names);
            case "group":
                var groups = wait(admin.describeConsumerGroups(List.of(group)).all());
                return groups.get(group).groupState() + " " + groups.get(group).members().size();
            case "delete_group":
                wait(admin.deleteConsumerGroups(List.of(group)).all());
                return "";
            default:
                throw new UnsupportedOperationException(verb + " is not in this driver");
        }
    }

    private String committed(Admin admin, String group, List<TopicPartition> places) throws Exception {
        long since = History.now();
        Map<TopicPartition, OffsetAndMetadata> found =
                wait(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        Map<Integer, Long> offsets = new TreeMap<>();
        for (TopicPartition place : places) {
            OffsetAndMetadata at = found.get(place);
            offsets.put(place.partition(), at == null ? -1 : at.offset());
            history.learned("told", group, place, offsets.get(place.partition()), since);
        }
        return offsets.values().stream().map(String::valueOf).collect(Collectors.joining(","));
    }

    private static List<TopicPartition> places(String topic, int partitions) {
        List<TopicPartition> places = new ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) {
            places.add(new TopicPartition(topic, partition));
        }
        return places;
    }

    private static <T> T wait(KafkaFuture<T> future) throws Exception {
        return future.get(DEADLINE_SECONDS, TimeUnit.SECONDS);
    }
}
