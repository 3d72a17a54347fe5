import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;

/** The lines that this client writes, each with one system call: they outlive a kill. */
final class History {
    private final FileOutputStream file;
    private final ObjectMapper json = new ObjectMapper();

    History(String path) throws IOException {
        file = new FileOutputStream(path, true);
    }

    /** Microseconds of the machine's monotonic clock, which is what the JVM's is on Linux. */
    static long now() {
        return System.nanoTime() / 1000;
    }

    synchronized void write(String op, Map<String, ?> fields) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("at", now());
        line.put("op", op);
        line.putAll(fields);
        try {
            file.write((json.writeValueAsString(line) + "\n").getBytes(StandardCharsets.UTF_8));
        } catch (IOException error) {
            throw new IllegalStateException("writing the history", error);
        }
    }

    void acknowledged(String id, TopicPartition place, long offset) {
        Map<String, Object> fields = at(place);
        fields.put("id", id);
        fields.put("offset", offset);
        write("acknowledged", fields);
    }

    /** A member of a group at a place: `assigned`, `committing`, `committed`; an offset below zero is left out. */
    void member(String op, String group, String member, TopicPartition place, long offset) {
        Map<String, Object> fields = at(place);
        fields.put("group", group);
        fields.put("member", member);
        if (offset >= 0) {
            fields.put("offset", offset);
        }
        write(op, fields);
    }

    /** What somebody learned about a group at a place: `told`, `ended`. */
    void learned(String op, String group, TopicPartition place, long offset, long since) {
        Map<String, Object> fields = at(place);
        fields.put("group", group);
        fields.put("offset", offset);
        fields.put("since", since);
        write(op, fields);
    }

    void read(String group, String member, ConsumerRecord<String, String> record) {
        Map<String, Object> fields = at(new TopicPartition(record.topic(), record.partition()));
        fields.put("group", group);
        fields.put("member", member);
        fields.put("offset", record.offset());
        fields.put("id", record.value() == null ? "" : record.value().split(" ", 2)[0]);
        fields.put("key", record.key());
        fields.put("timestamp", record.timestamp());
        Map<String, String> headers = new LinkedHashMap<>();
        for (Header header : record.headers()) {
            headers.put(header.key(), new String(header.value(), StandardCharsets.UTF_8));
        }
        fields.put("headers", headers);
        write("read", fields);
    }

    private static Map<String, Object> at(TopicPartition place) {
        Map<String, Object> fields = new LinkedHashMap<>();
        fields.put("topic", place.topic());
        fields.put("partition", place.partition());
        return fields;
    }
}
