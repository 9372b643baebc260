import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import javax.security.auth.callback.Callback;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerToken;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallback;

/** Takes a token as Amazon MSK does, but for the signature, which only AWS can check. */
public class MskTokens implements AuthenticateCallbackHandler {
    @Override
    public void configure(Map<String, ?> configs, String mechanism, List<AppConfigurationEntry> entries) {}

    @Override
    public void handle(Callback[] callbacks) {
        for (Callback callback : callbacks) {
            if (!(callback instanceof OAuthBearerValidatorCallback)) continue; // of extensions, and there are none
            OAuthBearerValidatorCallback asked = (OAuthBearerValidatorCallback) callback;
            try {
                asked.token(read(asked.tokenValue()));
            } catch (RuntimeException wrong) {
                asked.error("invalid_token", null, null);
            }
        }
    }

    private static OAuthBearerToken read(String token) {
        String url = new String(Base64.getUrlDecoder().decode(token), StandardCharsets.UTF_8);
        String address = "https://kafka.eu-west-1.amazonaws.com/?";
        if (!url.startsWith(address)) throw new IllegalArgumentException("another address");
        Map<String, String> query = new HashMap<>();
        for (String pair : url.substring(address.length()).split("&")) query.put(pair.split("=")[0], pair.split("=")[1]);
        if (!query.get("Action").equals("kafka-cluster%3AConnect")) throw new IllegalArgumentException("another action");
        if (query.get("X-Amz-Signature").length() != 64) throw new IllegalArgumentException("no signature");
        DateTimeFormatter form = DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'");
        Instant start = LocalDateTime.parse(query.get("X-Amz-Date"), form).toInstant(ZoneOffset.UTC);
        Instant end = start.plusSeconds(Long.parseLong(query.get("X-Amz-Expires")));
        if (end.isBefore(Instant.now())) throw new IllegalArgumentException("expired");
        return new OAuthBearerToken() {
            public String value() { return token; }
            public Set<String> scope() { return Set.of(); }
            public long lifetimeMs() { return end.toEpochMilli(); }
            public String principalName() { return query.get("X-Amz-Credential").split("%2F")[0]; }
            public Long startTimeMs() { return start.toEpochMilli(); }
        };
    }

    @Override
    public void close() {}
}
