import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

/** Posts the body twice to a URL by Java's default client, which offers an upgrade to HTTP/2. */
public final class PlaceOrder {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
                .header("Content-Type", "application/json")
                .POST(BodyPublishers.ofString(arguments[1]))
                .build();
        for (int attempt = 0; attempt < 2; attempt++) {
            System.out.println(client.send(request, BodyHandlers.ofString()).statusCode());
        }
    }
}
