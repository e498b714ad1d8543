import static net.logstash.logback.argument.StructuredArguments.value;

import java.util.Map;
import net.logstash.logback.marker.Markers;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.MDC;

/** The ten lines by logback with logstash-logback-encoder. */
public class Order {
  public static void main(String[] arguments) {
    Logger log = LoggerFactory.getLogger("com.example.Order");
    log.debug("cache warmed", value("entries", 42));
    log.info("order accepted", value("order_id", "o-1"), value("amount", 12.5));
    log.info("quote \" and \\ backslash");
    log.info("unicode žluťoučký 漢字");
    log.info("two\nlines");
    log.warn("queue is filling", value("depth", 900), value("queue", Map.of("name", "mail")));
    IllegalStateException error = new IllegalStateException("card refused");
    error.setStackTrace(new StackTraceElement[] {new StackTraceElement("com.example.Order", "pay", "Order.java", 42)});
    log.error("payment failed", error);
    MDC.put("trace_id", "0af7651916cd43dd8448eb211c80319c");
    MDC.put("span_id", "b7ad6b7169203331");
    log.info("within a trace");
    MDC.clear();
    MDC.put("trace_id", "12345");
    log.info("a foreign trace");
    MDC.clear();
    log.error(Markers.append("attempts", 3).and(Markers.append("ok", false)).and(Markers.append("nothing", null)), "giving up");
  }
}
