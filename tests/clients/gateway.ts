/**
 * A caller of the gateway, on the types that openapi-typescript generates.
 *
 * `node gateway.js URL TOKEN`: the gateway at this URL, with a JWT. It prints what it found as JSON.
 */
import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./gapi.js";

type Schemas = components["schemas"];

const DEADLINE_MILLISECONDS = 30_000;
const POLL_MILLISECONDS = 50;
const NO_ORDER = "0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77";

/** The answer of a call, if it is not an error. */
function expect<Data>(answer: { data?: Data; error?: Schemas["ErrorResponse"] }): Data {
  if (answer.error !== undefined) throw new Error(answer.error.error.message);
  if (answer.data === undefined) throw new Error("a status that the document does not have");
  return answer.data;
}

/** The code of a call that was refused. */
function codeOf(answer: { error?: Schemas["ErrorResponse"] }): string {
  if (answer.error === undefined) throw new Error("it was not refused");
  return answer.error.error.code;
}

/** The order once it has slices. */
async function waitUntilSplit(client: Client<paths>, order_id: string): Promise<Schemas["Order"]> {
  const deadline = Date.now() + DEADLINE_MILLISECONDS;
  for (;;) {
    const order = expect(
      await client.GET("/api/orders/{order_id}", { params: { path: { order_id } } }),
    );
    if (order.order_queue_status === "COMPLETED") return order;
    if (Date.now() > deadline) throw new Error(`still ${order.order_queue_status}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
  }
}

/** The quantity of an order, from its first event. */
function totalOf(event: Schemas["Event"] | undefined): number {
  if (event?.type !== "OrderCreated") throw new Error("not an order's first event");
  return event.data.total_quantity;
}

async function main(url: string, token: string): Promise<void> {
  const anonymous = createClient<paths>({ baseUrl: url });
  const health = expect(await anonymous.GET("/health"));
  const hello = expect(await anonymous.GET("/api/hello"));

  const client = createClient<paths>({
    baseUrl: url,
    headers: { Authorization: `Bearer ${token}` },
  });
  const body: Schemas["OrderRequest"] = {
    order_unique_key: "ouk_first",
    instrument: "NSE:RELIANCE",
    side: "BUY",
    total_quantity: 100,
    split_config: { num_splits: 5, duration_minutes: 60 },
  };
  const placed = expect(await client.POST("/api/orders", { body }));
  const order = await waitUntilSplit(client, placed.order_id);
  const cancelled = expect(
    await client.POST("/api/orders/{order_id}/cancel", {
      params: { path: { order_id: order.order_id } },
      body: { reason: "no longer wanted" },
    }),
  );

  const page = expect(
    await client.GET("/api/orders", {
      params: { query: { order_unique_key: "ouk_first", limit: 1 } },
    }),
  );
  const history = expect(
    await client.GET("/api/orders/{order_id}/events", {
      params: { path: { order_id: order.order_id } },
    }),
  );

  const found = {
    health: [health.status, hello.message],
    request: body,
    order_id: order.order_id,
    status: order.order_queue_status,
    slices: order.slices.map((one) => one.quantity),
    listed: page.orders.map((one) => one.order_id),
    created: totalOf(history.events[0]),
    history: history.events.map((event) => event.type),
    remaining: cancelled.quantities.remaining,
    errors: [
      codeOf(
        await client.GET("/api/orders/{order_id}", { params: { path: { order_id: NO_ORDER } } }),
      ),
      codeOf(await anonymous.POST("/api/orders", { body })),
      codeOf(
        await client.POST("/api/orders/{order_id}/cancel", {
          params: { path: { order_id: NO_ORDER } },
        }),
      ),
    ],
  };
  console.log(JSON.stringify(found));
}

const [url, token] = process.argv.slice(2);
if (url === undefined || token === undefined) throw new Error("usage: node gateway.js URL TOKEN");
await main(url, token);
