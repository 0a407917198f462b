import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.concurrent.TimeUnit;

/**
 * Java as a client: HttpClient, which offers h2c in its requests unless told not to, and HttpURLConnection.
 *
 * usage: java Web.java (HttpClient|URLConnection) URL
 */
class Web {
    static final String[] PATHS = {"/json", "/json?q=a%2Fb", "/chunked", "/gzip", "/missing", "/trailers", "/empty", "/cookies", "/redirect"};

    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("HttpClient")) {
            for (var version : HttpClient.Version.values()) overHttpClient(version, arguments[1]);
        } else {
            overUrlConnection(arguments[1]);
        }
        System.exit(0);
    }

    static void overHttpClient(HttpClient.Version version, String base) throws Exception {
        var client = HttpClient.newBuilder().version(version).followRedirects(HttpClient.Redirect.NORMAL).build();
        for (var path : PATHS) send(client, HttpRequest.newBuilder(URI.create(base + path)));
        for (var method : new String[] {"POST", "PUT", "PATCH"}) {
            var ask = HttpRequest.newBuilder(URI.create(base + "/echo")).header("Content-Type", "application/json").header("X-Own", "a b");
            send(client, ask.method(method, BodyPublishers.ofString("{}")));
        }
        for (var method : new String[] {"HEAD", "DELETE", "OPTIONS", "POST"}) {
            var ask = HttpRequest.newBuilder(URI.create(base + "/json")).method(method, BodyPublishers.noBody());
            send(client, ask);
        }
        var stream = BodyPublishers.ofInputStream(() -> new ByteArrayInputStream("streamed".getBytes()));
        send(client, HttpRequest.newBuilder(URI.create(base + "/echo")).POST(stream));
        var waits = HttpRequest.newBuilder(URI.create(base + "/echo")).expectContinue(true).POST(BodyPublishers.ofString("text"));
        if (version == HttpClient.Version.HTTP_1_1) send(client, waits); // JDK 17 waits for ever where it offered h2c
        try {
            client.newWebSocketBuilder().buildAsync(URI.create(base.replace("http", "ws") + "/ws"), new java.net.http.WebSocket.Listener() {})
                .get(5, TimeUnit.SECONDS);
        } catch (java.util.concurrent.ExecutionException | java.util.concurrent.TimeoutException closed) {
            // the service hangs up after the switch
        }
    }

    /** The answer does not matter: the service may not know what it was asked. */
    static void send(HttpClient client, HttpRequest.Builder ask) throws InterruptedException {
        try {
            client.send(ask.timeout(Duration.ofSeconds(2)).build(), BodyHandlers.ofString());
        } catch (IOException why) {
            System.err.println(why);
        }
    }

    static void overUrlConnection(String base) throws Exception {
        for (var path : PATHS) ask(base + path, "GET", false, null);
        for (var method : new String[] {"HEAD", "DELETE", "OPTIONS"}) ask(base + "/json", method, false, null);
        for (var method : new String[] {"POST", "PUT"}) ask(base + "/echo", method, false, "a=1&b=2");
        ask(base + "/echo", "POST", true, "in chunks");
    }

    static void ask(String url, String method, boolean chunked, String body) throws Exception {
        var connection = (HttpURLConnection) new URL(url).openConnection();
        connection.setRequestMethod(method);
        connection.setRequestProperty("X-Own", "a b");
        if (chunked) connection.setChunkedStreamingMode(4);
        if (body != null) {
            connection.setDoOutput(true);
            connection.getOutputStream().write(body.getBytes());
        }
        if (connection.getResponseCode() < 400) connection.getInputStream().readAllBytes();
    }
}
