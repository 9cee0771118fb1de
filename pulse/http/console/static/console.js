/**
 * The console's script: live updates, times, theme, keyboard and copy buttons.
 *
 * Every page works without it. What it finds in a page:
 *   data-live="name"    a region that is updated in place from the page's own URL; if the page has
 *                       other regions than before, all of it is updated
 *   data-key="id"       identifies an element of a region, such as a row, between two updates
 *   data-controls       what needs the script; it is `hidden` in the page, and shown here
 *   data-connection     the note about updates, with role="status"
 *   data-pause          the button that pauses updates
 *   data-zone           the button that switches between UTC and exchange time
 *   data-theme-switch   the button that switches between the light and the dark theme
 *   data-keys           the button that shows the keys
 *   data-row            a row that j and k move along; Enter opens its first link
 *   data-filter         the field that / focuses
 *   data-copy="text"    a `hidden` button that copies this text
 *   data-label          the part of a button that has its text; without it, the whole button
 *   data-keep           an element that updates do not change; they do not change forms either
 *   <time datetime>     shown in the chosen zone; with data-relative as an age, with data-clock as
 *                       the time of the day
 */
"use strict";

{
  const POLL_MS = 2_000;
  const MAX_WAIT_MS = 30_000;
  const TIMEOUT_MS = 10_000;
  const COPIED_MS = 2_000;
  const MIN_SKEW_MS = 2_000;
  const EXCHANGE_OFFSET_MS = 330 * 60_000; // Asia/Kolkata is UTC+05:30, without daylight saving time
  const UNITS = [
    ["d", 86_400],
    ["h", 3_600],
    ["min", 60],
    ["s", 1],
  ];

  /** Storage that may be forbidden by the browser's settings; then nothing is remembered. */
  const memory = {
    /** @param {Storage} storage @param {string} name @returns {string | null} */
    read(storage, name) {
      try {
        return storage.getItem(name);
      } catch {
        return null;
      }
    },
    /** @param {Storage} storage @param {string} name @param {string} value */
    write(storage, name, value) {
      try {
        storage.setItem(name, value);
      } catch {
        // the setting lasts as long as the page
      }
    },
  };

  /* ---- theme ------------------------------------------------------------------------------- */

  const darkPreferred = matchMedia("(prefers-color-scheme: dark)");

  /** @returns {"light" | "dark"} the theme in use */
  function theme() {
    const chosen = document.documentElement.dataset.theme;
    if (chosen === "light" || chosen === "dark") return chosen;
    return darkPreferred.matches ? "dark" : "light";
  }

  /** @param {HTMLElement} button */
  function showTheme(button) {
    button.title = `Switch to the ${theme() === "dark" ? "light" : "dark"} theme`;
  }

  /** @param {HTMLElement} button */
  function switchTheme(button) {
    const other = theme() === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = other;
    memory.write(localStorage, "pulse.theme", other);
    showTheme(button);
  }

  /* ---- times ------------------------------------------------------------------------------- */

  let zone = memory.read(localStorage, "pulse.zone") === "exchange" ? "exchange" : "utc";
  let skewMs = 0; // the server's clock minus this one's

  /** @returns {number} the time in ms, by the server's clock as far as it is known */
  function now() {
    return Date.now() + skewMs;
  }

  /**
   * @param {number} ms @param {string} fraction digits after the seconds with their point, or ""
   * @returns {string} such as "2026-01-05 09:15:00 UTC"
   */
  function absolute(ms, fraction = "") {
    const local = new Date(zone === "utc" ? ms : ms + EXCHANGE_OFFSET_MS).toISOString();
    return `${local.slice(0, 10)} ${local.slice(11, 19)}${fraction} ${zone === "utc" ? "UTC" : "IST"}`;
  }

  /** @param {number} ms @returns {string} such as "14:03:12" */
  function clockTime(ms) {
    return absolute(ms).slice(11, 19);
  }

  /** @param {number} ms @returns {string} such as "2 min 5 s ago" or "in 3 h 20 min" */
  function relative(ms) {
    const seconds = Math.trunc((ms - now()) / 1_000);
    let rest = Math.abs(seconds);
    if (rest === 0) return "now";
    const first = UNITS.findIndex(([, size]) => rest >= size);
    const parts = [];
    for (const [unit, size] of UNITS.slice(first, first + 2)) {
      const count = Math.floor(rest / size);
      rest -= count * size;
      if (count) parts.push(`${count} ${unit}`);
    }
    return seconds < 0 ? `${parts.join(" ")} ago` : `in ${parts.join(" ")}`;
  }

  /** Show a time in the chosen zone, or as an age with the time in its title. @param {HTMLElement} element */
  function showTime(element) {
    const ms = Date.parse(element.getAttribute("datetime") ?? "");
    if (Number.isNaN(ms)) return;
    if (element.dataset.fraction === undefined) {
      element.dataset.fraction = /\d(\.\d+)/.exec(element.textContent)?.[1] ?? "";
      if (/^\d\d:\d\d UTC$/.test(element.textContent.trim())) element.dataset.minute = "";
    }
    const full = absolute(ms, element.dataset.fraction);
    if (element.hasAttribute("data-minute")) {
      if (element.title !== full) element.title = full;
      setText(element, full.slice(11, 16) + full.slice(full.lastIndexOf(" ")));
    } else if (element.hasAttribute("data-relative")) {
      if (element.title !== full) element.title = full;
      setText(element, relative(ms));
    } else if (element.hasAttribute("data-clock")) {
      if (element.title !== full) element.title = full;
      setText(element, full.slice(11, full.lastIndexOf(" ")));
    } else {
      setText(element, full);
    }
  }

  /** Set the text of an element that has only text, unless it is the same or selected. */
  function setText(element, text) {
    const node = element.firstChild;
    if (node?.nodeType !== Node.TEXT_NODE || element.childNodes.length > 1) {
      element.textContent = text;
    } else if (node.nodeValue !== text && !isSelected(node)) {
      node.nodeValue = text;
    }
  }

  /** @param {ParentNode} root */
  function showTimes(root) {
    root.querySelectorAll("time[datetime]").forEach(showTime);
  }

  /** @param {HTMLElement} button */
  function showZone(button) {
    setText(button.querySelector("[data-label]") ?? button, zone === "utc" ? "UTC" : "IST");
    button.title = zone === "utc" ? "Show exchange time (IST)" : "Show UTC";
  }

  /** @param {HTMLElement} button */
  function switchZone(button) {
    zone = zone === "utc" ? "exchange" : "utc";
    memory.write(localStorage, "pulse.zone", zone);
    showZone(button);
    showTimes(document);
  }

  /* ---- updates in place -------------------------------------------------------------------- */

  /** Whether the person has selected text in this node. @param {Node} node */
  function isSelected(node) {
    const selection = document.getSelection();
    return selection !== null && !selection.isCollapsed && selection.containsNode(node, true);
  }

  /** @param {Node} node @returns {string | null} what identifies it among its siblings */
  function keyOf(node) {
    if (node.nodeType !== Node.ELEMENT_NODE) return null;
    return node.dataset?.key || node.id || null;
  }

  /** Whether `from` can become `to` by changing it. @param {Node} from @param {Node} to */
  function canMorph(from, to) {
    return from.nodeName === to.nodeName && keyOf(from) === keyOf(to);
  }

  /**
   * Make the children of `from` equal to those of `to`, and change as little as possible. Elements
   * that stay keep their focus, selection, scroll position, and whether they are open.
   * @param {Element} from @param {Element} to
   */
  function morphChildren(from, to) {
    const keyed = new Map();
    for (const child of from.children) {
      const key = keyOf(child);
      if (key !== null) keyed.set(key, child);
    }
    let next = from.firstChild;
    for (const wanted of [...to.childNodes]) {
      const key = keyOf(wanted);
      const found = key === null ? findFrom(next, wanted) : keyed.get(key);
      if (!found || !canMorph(found, wanted)) {
        from.insertBefore(document.importNode(wanted, true), next);
        continue;
      }
      next = removeUntil(next, found, to);
      if (next === found) next = next.nextSibling;
      else from.insertBefore(found, next);
      morph(found, wanted);
    }
    removeUntil(next, null, to, true);
  }

  /**
   * The first of `node` and its later siblings that can become `wanted`, which has no key. For text
   * only `node` is considered.
   * @param {Node | null} node @param {Node} wanted @returns {Node | null}
   */
  function findFrom(node, wanted) {
    while (node && !canMorph(node, wanted)) {
      node = wanted.nodeType === Node.ELEMENT_NODE ? node.nextSibling : null;
    }
    return node;
  }

  /**
   * Remove the siblings from `node` on, until `end` or one whose key `to` also has, so that `end`
   * itself need not be moved: an element that is moved loses its focus.
   * @param {Node | null} node @param {Node | null} end @param {Element} to @param {boolean} all
   * @returns {Node | null} the first node that is left
   */
  function removeUntil(node, end, to, all = false) {
    while (node && node !== end && (all || !hasKey(to, keyOf(node)))) {
      const after = node.nextSibling;
      node.remove();
      node = after;
    }
    return node;
  }

  /** Whether a child of `parent` has this key. @param {Element} parent @param {string | null} key */
  function hasKey(parent, key) {
    return key !== null && [...parent.children].some((child) => keyOf(child) === key);
  }

  /** Make `from` equal to `to`. @param {Node} from @param {Node} to */
  function morph(from, to) {
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.nodeValue !== to.nodeValue && !isSelected(from)) from.nodeValue = to.nodeValue;
      return;
    }
    if (from.isEqualNode(to) || from.matches("form, [data-keep]")) return;
    for (const { name } of [...from.attributes]) {
      if (!to.hasAttribute(name) && name !== "open") from.removeAttribute(name);
    }
    for (const { name, value } of to.attributes) {
      if (name !== "open" && from.getAttribute(name) !== value) from.setAttribute(name, value);
    }
    morphChildren(from, to);
  }

  /** The names of the live regions in an element. @param {Element} root @returns {string} */
  function regionsOf(root) {
    return [...root.querySelectorAll("[data-live]")].map((region) => region.dataset.live).join(" ");
  }

  /**
   * Update the live regions of this page from another version of it; if that has other regions, as
   * after an outage, update all of the page.
   * @param {Document} fresh
   */
  function update(fresh) {
    prepare(fresh);
    const row = document.activeElement?.closest("[data-row]");
    const index = row ? rows().indexOf(row) : -1;
    const main = document.querySelector("main");
    const freshMain = fresh.querySelector("main");
    if (main && freshMain && regionsOf(main) !== regionsOf(freshMain)) {
      document.title = fresh.title;
      morphChildren(main, freshMain);
    }
    for (const region of document.querySelectorAll("[data-live]")) {
      const name = CSS.escape(region.dataset.live);
      const wanted = fresh.querySelector(`[data-live="${name}"]`);
      if (wanted) morph(region, wanted);
    }
    if (row && !row.isConnected) focusRow(index); // the row is gone: stay where it was
  }

  /* ---- polling ----------------------------------------------------------------------------- */

  const pauseName = `pulse.paused:${location.pathname}`;
  let paused = memory.read(sessionStorage, pauseName) === "true";
  let signedOut = false;
  let lostAt = null;
  let failures = 0;
  let timer = 0;
  let running = null; // the AbortController of the request that is under way

  /** Refresh after a wait, unless updates are paused or the tab is hidden. @param {number} ms */
  function schedule(ms) {
    clearTimeout(timer);
    if (!paused && !signedOut && !document.hidden) timer = setTimeout(refresh, ms);
  }

  /** Fetch this page and update its regions; then schedule the next time. */
  async function refresh() {
    clearTimeout(timer);
    if (paused || signedOut || document.hidden || running) return;
    const request = (running = new AbortController());
    const timeout = setTimeout(() => request.abort(), TIMEOUT_MS);
    let waitMs = POLL_MS;
    try {
      const response = await fetch(location.href, {
        headers: { "X-Console-Fragment": "1" },
        cache: "no-store",
        redirect: "manual",
        signal: request.signal,
      });
      if (response.status === 401 || response.type === "opaqueredirect") {
        showSignedOut();
      } else if (response.ok) {
        const text = await response.text();
        if (running !== request) return; // paused meanwhile
        learnSkew(response);
        update(new DOMParser().parseFromString(text, "text/html"));
        showConnected();
      } else {
        waitMs = showLost(`Pulse answered ${response.status}`, response.headers.get("Retry-After"));
      }
    } catch {
      if (running === request) waitMs = showLost("Connection lost", null);
    } finally {
      clearTimeout(timeout);
      if (running === request) {
        running = null;
        schedule(waitMs);
      }
    }
  }

  /** Compare the clocks, since ages are by the server's. @param {Response} response */
  function learnSkew(response) {
    const skew = Date.parse(response.headers.get("Date") ?? "") + 500 - Date.now();
    skewMs = Math.abs(skew) > MIN_SKEW_MS ? skew : 0;
  }

  /** @param {"" | "lost" | "paused" | "signed-out"} state @param {string} text */
  function note(state, text) {
    const element = document.querySelector("[data-connection]");
    if (!element) return;
    element.dataset.state = state;
    if (element.textContent !== text) element.textContent = text;
  }

  /** @param {string} what @param {string | null} retryAfter seconds @returns {number} how many ms to wait */
  function showLost(what, retryAfter) {
    lostAt ??= now();
    failures += 1;
    note("lost", `${what} at ${clockTime(lostAt)}, trying again`);
    const backoff = Math.min(MAX_WAIT_MS, POLL_MS * 2 ** (failures - 1));
    return Math.max(backoff, Math.min(MAX_WAIT_MS, 1_000 * (Number(retryAfter) || 0)));
  }

  /** Connected: say so only after the connection was lost. */
  function showConnected() {
    if (lostAt !== null) note("", `Connected again at ${clockTime(now())}`);
    else if (failures === 0) note("", "");
    lostAt = null;
    failures = 0;
  }

  /** The session has ended: say so, with a link to sign in and return here. */
  function showSignedOut() {
    signedOut = true;
    note("signed-out", "Signed out: this page is no longer updated. ");
    const link = document.createElement("a");
    const here = encodeURIComponent(location.pathname + location.search);
    link.href = `${consolePath}/sign-in?next=${here}`;
    link.textContent = "Sign in";
    document.querySelector("[data-connection]")?.append(link);
  }

  /** @param {HTMLElement} button */
  function showPaused(button) {
    button.setAttribute("aria-pressed", String(paused));
  }

  /** @param {HTMLElement} button */
  function switchPaused(button) {
    paused = !paused;
    memory.write(sessionStorage, pauseName, String(paused));
    showPaused(button);
    if (paused) {
      clearTimeout(timer);
      const request = running;
      running = null;
      request?.abort();
      note("paused", `Paused at ${clockTime(now())}`);
    } else {
      lostAt = null;
      failures = 0;
      note("", "");
      schedule(0);
    }
  }

  /** Begin to refresh, if the page has anything to update. */
  function startPolling() {
    if (!document.querySelector("main [data-live]")) return;
    const retryNow = () => schedule(0);
    document.addEventListener("visibilitychange", retryNow);
    addEventListener("online", retryNow);
    addEventListener("pageshow", (event) => event.persisted && retryNow());
    setInterval(() => !document.hidden && showTimes(document), 1_000);
    if (paused) note("paused", "Paused");
    schedule(POLL_MS);
  }

  /* ---- keyboard ---------------------------------------------------------------------------- */

  /** @returns {HTMLElement[]} the rows that j and k move along */
  function rows() {
    return [...document.querySelectorAll("[data-row]")].filter((row) => row.offsetParent !== null);
  }

  /** Focus the row of this index, or the nearest. @param {number} index */
  function focusRow(index) {
    const all = rows();
    const row = all[Math.max(0, Math.min(index, all.length - 1))];
    row?.focus({ preventScroll: true });
    row?.scrollIntoView({ block: "nearest" });
  }

  /** @param {number} step */
  function moveRow(step) {
    const row = document.activeElement?.closest("[data-row]");
    focusRow(row ? rows().indexOf(row) + step : step > 0 ? 0 : Infinity);
  }

  function focusFilter() {
    const filter = document.querySelector("[data-filter]");
    filter?.focus();
    if (filter instanceof HTMLInputElement) filter.select();
  }

  /** Show the keys in a dialog, which Escape closes. */
  function showKeys() {
    const dialog = document.querySelector("dialog#keys") ?? createKeysDialog();
    if (!dialog.open) dialog.showModal();
  }

  const KEYS = {
    "/": [focusFilter, "Go to the filter"],
    j: [() => moveRow(1), "Next row"],
    k: [() => moveRow(-1), "Previous row"],
    "?": [showKeys, "Show this list"],
  };

  /** @returns {HTMLDialogElement} */
  function createKeysDialog() {
    const dialog = create("dialog", { id: "keys", "aria-labelledby": "keys-title" });
    const list = create("dl", { class: "keys" });
    const works = (key) => key !== "/" || document.querySelector("[data-filter]") !== null;
    const shown = Object.entries(KEYS).map(([key, [, text]]) => [key, text]);
    for (const [key, text] of [...shown, ["Enter", "Open the row"]].filter(([key]) => works(key))) {
      const term = create("dt");
      term.append(create("kbd", {}, key));
      list.append(term, create("dd", {}, text));
    }
    const form = create("form", { method: "dialog" });
    form.append(create("button", { class: "button" }, "Close"));
    dialog.append(create("h2", { id: "keys-title" }, "Keys"), list, form);
    document.body.append(dialog);
    return dialog;
  }

  /** @param {string} name @param {Record<string, string>} attributes @param {string} text */
  function create(name, attributes = {}, text = "") {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    return element;
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = event.target instanceof Element ? event.target : document.body;
    if (target.closest("input, textarea, select, dialog, [contenteditable]")) return;
    if (event.key === "Enter" && target.matches("[data-row]")) {
      target.querySelector("a[href]")?.click();
    } else if (Object.hasOwn(KEYS, event.key)) {
      event.preventDefault();
      KEYS[event.key][0]();
    }
  }

  /* ---- copying ----------------------------------------------------------------------------- */

  /** Copy text. Outside secure contexts, such as over plain HTTP, only execCommand works. */
  async function copy(text) {
    if (navigator.clipboard && isSecureContext) {
      try {
        await navigator.clipboard.writeText(text);
        return true;
      } catch {
        // not permitted: use execCommand
      }
    }
    const field = document.createElement("textarea");
    const focused = document.activeElement;
    field.value = text;
    field.readOnly = true;
    field.style.position = "fixed";
    field.style.opacity = "0";
    document.body.append(field);
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
    return copied;
  }

  /** @param {HTMLElement} button */
  async function onCopy(button) {
    const copied = await copy(button.dataset.copy);
    const label = button.querySelector("[data-label]") ?? button;
    const text = (button.dataset.text ??= label.textContent);
    label.textContent = copied ? "Copied" : "Not copied";
    announce(label.textContent);
    setTimeout(() => {
      label.textContent = text;
      delete button.dataset.text;
    }, COPIED_MS);
  }

  /** Let screen readers read a short message. @param {string} text */
  function announce(text) {
    announcement.textContent = text;
    setTimeout(() => (announcement.textContent = ""), COPIED_MS);
  }

  /* ---- start ------------------------------------------------------------------------------- */

  const announcement = create("div", { class: "visually-hidden", role: "status" });
  const scriptPath = document.currentScript
    ? new URL(document.currentScript.src).pathname
    : "/console/static/console.js";
  const consolePath = scriptPath.replace(/\/static\/[^/]*$/, "");

  const CONTROLS = [
    ["[data-pause]", showPaused, switchPaused],
    ["[data-zone]", showZone, switchZone],
    ["[data-theme-switch]", showTheme, switchTheme],
    ["[data-keys]", () => {}, showKeys],
  ];

  /** Prepare a page, or a new version of it, for people with scripts. @param {Document} root */
  function prepare(root) {
    showTimes(root);
    for (const row of root.querySelectorAll("[data-row]")) row.tabIndex = -1;
    for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
    for (const [selector, show] of CONTROLS) {
      for (const button of root.querySelectorAll(selector)) show(button);
    }
  }

  function start() {
    prepare(document);
    document.body.append(announcement);
    for (const controls of document.querySelectorAll("[data-controls]")) controls.hidden = false;
    document.addEventListener("keydown", onKey);
    document.addEventListener("click", (event) => {
      const target = event.target instanceof Element ? event.target : null;
      const copyButton = target?.closest("[data-copy]");
      if (copyButton) onCopy(copyButton);
      for (const [selector, , act] of CONTROLS) {
        const button = target?.closest(selector);
        if (button) act(button);
      }
    });
    startPolling();
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
}
