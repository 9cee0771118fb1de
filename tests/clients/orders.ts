/**
 * A service that previews and places an order, follows it and cancels the rest, on the types that openapi-typescript generates.
 *
 * `node orders.js URL [TOKEN]`: the API at this URL, with a service token or without. It prints what
 * it found as JSON.
 */
import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./pulse.js";

type Api = Client<paths, "application/json">;
type Schemas = components["schemas"];
type Event = Schemas["Event"];
type Order = Schemas["Order"];

const FINAL: Schemas["OrderQueueStatus"][] = ["COMPLETED", "FAILED", "CANCELLED"];
const DEADLINE_MILLISECONDS = 30_000;
const POLL_MILLISECONDS = 50;
const NO_ORDER = "0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77";

/** The API answered with an error. */
class Refused extends Error {
  constructor(readonly error: Schemas["ErrorBody"]) {
    super(`${error.code}: ${error.message}`);
  }
}

/** The answer of a call, if it is not an error. */
function expect<Data>(answer: { data?: Data; error?: Schemas["ErrorResponse"] }): Data {
  if (answer.error !== undefined) throw new Refused(answer.error.error);
  if (answer.data === undefined) throw new Error("a status that the document does not have");
  return answer.data;
}

/** The code of a call that was refused. */
function codeOf(answer: { error?: Schemas["ErrorResponse"] }): string {
  if (answer.error === undefined) throw new Error("it was not refused");
  return answer.error.error.code;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** The order once it is final and its first slice is not SCHEDULED any more. */
async function waitUntilFinal(client: Api, order_id: string): Promise<Order> {
  const deadline = Date.now() + DEADLINE_MILLISECONDS;
  for (;;) {
    const order = expect(
      await client.GET("/internal/orders/{order_id}", { params: { path: { order_id } } }),
    );
    const split = FINAL.includes(order.order_queue_status);
    if (split && order.slices.slice(0, 1).every((one) => one.state !== "SCHEDULED")) return order;
    if (Date.now() > deadline) throw new Error(`still ${order.order_queue_status}`);
    await pause(POLL_MILLISECONDS);
  }
}

/** Every order, newest first, in small pages. */
async function* everyOrder(client: Api): AsyncGenerator<Order> {
  let cursor: string | null = null;
  do {
    const query: { limit: number; cursor?: string } = { limit: 1 };
    if (cursor !== null) query.cursor = cursor;
    const page: Schemas["OrderPage"] = expect(
      await client.GET("/internal/orders", { params: { query } }),
    );
    yield* page.orders;
    cursor = page.next_cursor;
  } while (cursor !== null);
}

/** The slices of an order, out of the list of all. */
async function* slicesOf(
  client: Api,
  order: Order,
): AsyncGenerator<Schemas["ScheduledSlice"]> {
  let cursor: string | null = null;
  do {
    const query: { scheduled_from: string; limit: number; cursor?: string } = {
      scheduled_from: order.created_at,
      limit: 2,
    };
    if (cursor !== null) query.cursor = cursor;
    const page: Schemas["SlicePage"] = expect(
      await client.GET("/internal/slices", { params: { query } }),
    );
    yield* page.slices.filter((slice) => slice.order_id === order.order_id);
    cursor = page.next_cursor;
  } while (cursor !== null);
}

/** Every event up to the end of the log, in commit order. */
async function* wholeLog(client: Api): AsyncGenerator<Event> {
  for (let after = 0; ; ) {
    const page: Schemas["EventPage"] = expect(
      await client.GET("/internal/events", { params: { query: { after, limit: 2 } } }),
    );
    yield* page.events;
    if (page.next_after === after) return;
    after = page.next_after;
  }
}

/** What happened: each type of event has its own data. */
function inWords(event: Event): string {
  switch (event.type) {
    case "OrderCreated":
      return `${event.data.side} ${event.data.total_quantity} as ${event.data.num_splits} slices`;
    case "SlicesScheduled":
      return `${event.data.slices.reduce((sum, one) => sum + one.quantity, 0)} scheduled`;
    case "SplittingFailed":
      return `failed: ${event.data.reason}`;
    case "TimedOut":
      return `timed out after ${event.data.timeout_seconds} s`;
    case "OrderCancelled":
      return `${event.data.quantity} cancelled: ${event.data.reason}`;
    case "SlicesReleased":
      return `${event.data.slices.reduce((sum, one) => sum + one.quantity, 0)} released`;
    case "SlicesExpired":
      return `${event.data.quantity} expired: ${event.data.reason}`;
    case "ReleasesHalted":
      return `releases of ${event.data.scope} halted: ${event.data.reason}`;
    case "ReleasesResumed":
      return `halt ${event.data.halt_id} lifted by ${event.data.resumed_by}`;
    default: {
      const other: Schemas["OtherEvent"] = event;
      return `${other.type} with ${Object.keys(other.data).length} fields`;
    }
  }
}

async function all<One>(generator: AsyncGenerator<One>): Promise<One[]> {
  const found: One[] = [];
  for await (const one of generator) found.push(one);
  return found;
}

async function main(url: string, token?: string): Promise<void> {
  const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
  const client = createClient<paths, "application/json">({ baseUrl: url, headers });
  const health = expect(await client.GET("/health"));
  const ready = expect(await client.GET("/health/ready"));

  const request: Schemas["OrderRequest"] = {
    order_unique_key: "ouk_first",
    instrument: "NSE:RELIANCE",
    side: "BUY",
    total_quantity: 100,
    split_config: { num_splits: 5, duration_minutes: 60 },
  };
  const preview = expect(await client.POST("/internal/orders/preview", { body: request }));
  const repeated: Schemas["PreviewRequest"] = { ...request, split_seed: preview.split_seed };
  const previewAgain = expect(
    await client.POST("/internal/orders/preview", { body: repeated }),
  );
  const { starts_at, ends_at } = preview.window;

  const placed = expect(await client.POST("/internal/orders", { body: request }));
  const order = await waitUntilFinal(client, placed.order_id);

  const path = { order_id: order.order_id };
  const cancelled = expect(
    await client.POST("/internal/orders/{order_id}/cancel", {
      params: { path },
      body: { reason: "the fund is closed" },
    }),
  );
  const again = expect(
    await client.POST("/internal/orders/{order_id}/cancel", { params: { path } }),
  );
  if (JSON.stringify(again) !== JSON.stringify(cancelled)) throw new Error("it was changed");

  const other = { ...request, total_quantity: 101 };
  const batch = expect(await client.POST("/internal/orders/batch", { body: [request, other] }));
  const history = expect(
    await client.GET("/internal/orders/{order_id}/events", { params: { path } }),
  );

  const then = expect(
    await client.GET("/internal/orders/{order_id}", { params: { path, query: { version: 1 } } }),
  );
  const queue = expect(
    await client.GET("/internal/queue", { params: { query: { position: order.position } } }),
  );

  const found = {
    past: [then.order_queue_status, then.as_of?.position === then.position],
    queue: queue.as_of_position === order.position && queue.counts.COMPLETED >= 1,
    health: [health.status, ready.status],
    request,
    preview: preview.slices.map((one) => one.quantity),
    preview_again: previewAgain.slices.map((one) => one.quantity),
    window_seconds: (Date.parse(ends_at) - Date.parse(starts_at)) / 1000,
    order_id: order.order_id,
    status: order.order_queue_status,
    slices: order.slices.map((one) => one.quantity),
    states: cancelled.slices.map((one) => one.state),
    quantities: cancelled.quantities,
    listed: (await all(everyOrder(client))).filter((one) => one.order_id === order.order_id).length,
    listed_slices: (await all(slicesOf(client, order))).map((one) => one.quantity),
    history: history.events.map(inWords),
    log: (await all(wholeLog(client))).map(inWords),
    batch: batch.results.map(({ body }) => ("error" in body ? body.error.code : body.order_id)),
    errors: [
      codeOf(
        await client.GET("/internal/orders/{order_id}", {
          params: { path: { order_id: NO_ORDER } },
        }),
      ),
      codeOf(await client.POST("/internal/orders", { body: other })),
      codeOf(await client.GET("/internal/orders", { params: { query: { cursor: "x" } } })),
      codeOf(
        await client.POST("/internal/orders/{order_id}/cancel", {
          params: { path: { order_id: NO_ORDER } },
        }),
      ),
      codeOf(
        await client.POST("/internal/orders/preview", { body: { ...request, split_seed: "7" } }),
      ),
      codeOf(
        await client.GET("/internal/orders/{order_id}", {
          params: { path, query: { version: 99 } },
        }),
      ),
    ],
  };
  console.log(JSON.stringify(found));
}

const [url, token] = process.argv.slice(2);
if (url === undefined) throw new Error("usage: node orders.js URL [TOKEN]");
await main(url, token);
