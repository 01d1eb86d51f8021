// What pages do in the browser: they stay true while one looks at them, show notices, and open menus and dialogs.

const SOON = 120; // milliseconds in which news are gathered
const REST = 4; // so many times as long as a page took to come, it is not asked for again
const body = document.body;

// -- what is open, typed or chosen stays so when a page is brought up to date

const SCROLLS = new Set(["tabindex", "role", "aria-label"]);
const STAYS = new Set(["open", "value", "checked", "selected", "data-opened"]);

const keeping = {
  callbacks: {
    beforeAttributeUpdated: (name, node) =>
      !(STAYS.has(name) && node.matches("input, select, textarea, details, dialog, option")) && !(SCROLLS.has(name) && node.matches(".table-wrap")),
    beforeNodeMorphed: (old) => !(old instanceof Element && old.hasAttribute("data-keep")) || (travelling && old.matches("form")),
    beforeNodeRemoved: (old) => !(old instanceof Element && old.hasAttribute("data-keep")),
  },
};

// -- pages follow what happens

let source = null;
let timer = 0;
let refreshing = null;
let again = false;

// What a page wants to be told again when it is brought up to date, as the order in which a map shows machines.
function remembered() {
  const text = arrangement ?? document.querySelector("main [data-remembered]")?.dataset.remembered;
  return text ? { "X-Remembered": text } : {};
}

// Whatever comes or goes above what one reads does not move it; at the top of a page what is new comes into sight.
function readingPlace() {
  const places = [];
  for (const each of scrollY > 0 ? document.querySelectorAll("main [id]") : []) {
    const box = each.getBoundingClientRect();
    if (box.height > 0 && box.top >= 0 && box.top < innerHeight) {
      places.push([each, box.top]);
    }
  }
  return () => {
    const [place, top] = places.find(([each]) => each.isConnected && each.getBoundingClientRect().height > 0) ?? [];
    if (place) {
      scrollBy({ top: place.getBoundingClientRect().top - top, behavior: "instant" });
    }
  };
}

async function refresh() {
  if (refreshing) {
    again = true;
    return;
  }
  refreshing = new AbortController();
  const shown = location.href;
  const asked = performance.now();
  try {
    const answer = await fetch(shown, { headers: { "HX-Request": "true", "HX-Target": "main", ...remembered() }, signal: refreshing.signal });
    if (answer.headers.has("HX-Redirect")) {
      location.assign(answer.headers.get("HX-Redirect"));
      return;
    }
    if (answer.status === 429 || answer.status >= 500) {
      retry();
      return;
    }
    failures = 0;
    if (source?.readyState === EventSource.OPEN) {
      body.dataset.live = "yes";
    }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    took = performance.now() - asked;
    const main = fresh.querySelector("main");
    if (fresh.body.hasAttribute("hx-headers") && !body.hasAttribute("hx-headers")) {
      location.reload(); // What is shown only says what was wrong.
      return;
    }
    if (main && location.href === shown) {
      document.title = fresh.title;
      const focused = document.querySelector("main").contains(document.activeElement);
      const stayWhereOneReads = readingPlace();
      const before = drawn();
      Idiomorph.morph(document.querySelector("main"), main, keeping);
      stayWhereOneReads();
      pointOut(before);
      travelling = false;
      if (focused && document.activeElement === body) {
        document.querySelector("main").focus(); // What had the focus is gone.
      }
      if (fresh.body.hasAttribute("hx-headers")) {
        body.setAttribute("hx-headers", fresh.body.getAttribute("hx-headers")); // Another gateway may want another token.
      }
      htmx.process(document.querySelector("main"));
      settle();
      follow(); // What is shown now may be about other things.
      htmx.trigger(body, "refreshed");
    }
  } catch (error) {
    if (error.name !== "AbortError" && !(error instanceof TypeError)) {
      throw error;
    }
  } finally {
    refreshing = null;
    if (moved) {
      moved = again = false;
      refresh();
    } else if (again) {
      again = false;
      soon(REST * took);
    }
  }
}

// Where the gateway cannot answer for now, what is shown stays; it is asked again, more and more rarely.
let failures = 0;
let took = 0;

function retry() {
  failures += 1;
  took = 0;
  body.dataset.live = "no";
  clearTimeout(timer);
  timer = setTimeout(() => {
    timer = 0;
    refresh();
  }, Math.min(30000, 1000 * 2 ** (failures - 1)));
}

// News wait the longer, the longer it took to make the page: many who look at a large one must not keep the gateway from
// all else. What somebody does himself does not wait.
function soon(rest = 0) {
  if (timer && rest > SOON) {
    return;
  }
  clearTimeout(timer);
  timer = setTimeout(() => {
    timer = 0;
    refresh();
    document.querySelectorAll("dialog[open] [data-live-src]").forEach(refreshPart);
  }, Math.max(SOON, Math.min(rest, 5000)));
}

// What a dialog shows that changes: `data-live-src` is where it comes from, `data-topics` when it is fetched again.

async function refreshPart(part) {
  const started = (part.started = {});
  try {
    const answer = await fetch(part.dataset.liveSrc, { headers: { "HX-Request": "true" } });
    const html = await answer.text();
    if (answer.ok && part.isConnected && part.started === started) {
      Idiomorph.morph(part, html, { ...keeping, morphStyle: "innerHTML" });
      htmx.process(part);
    }
  } catch (error) {
    if (!(error instanceof TypeError)) {
      throw error;
    }
  }
}

function topics() {
  const all = [...document.querySelectorAll("main[data-topics], dialog [data-topics]")].map((each) => each.dataset.topics);
  return [...new Set(all.join(" ").split(" "))].filter(Boolean).sort().join(" ");
}

function follow() {
  const wanted = topics();
  if (!wanted && "asOf" in document.querySelector("main").dataset) {
    unfollow(); // What is past changes no more.
    delete body.dataset.live;
  }
  if (!wanted || document.hidden || (source && wanted.split(" ").every((topic) => followed.has(topic)))) {
    return;
  }
  missed ||= source !== null;
  unfollow();
  followed = new Set(wanted.split(" "));
  let lost = false;
  const asked = new URLSearchParams(wanted.split(" ").map((topic) => ["topic", topic]));
  asked.append("since", document.querySelector("main").dataset.since ?? 0);
  source = new EventSource("/live?" + asked);
  source.addEventListener("change", () => soon(REST * took));
  source.addEventListener("begin", () => {
    body.dataset.live = "yes";
    if (lost || missed) {
      soon();
    }
    lost = missed = false;
    refusals = 0;
  });
  source.addEventListener("error", () => {
    lost = true;
    body.dataset.live = "no";
    if (source.readyState === EventSource.CLOSED) {
      unfollow();
      refusals += 1;
      setTimeout(() => refresh().finally(follow), Math.min(30000, 1000 * 2 ** refusals));
    }
  });
}

// Browsers allow few connections to one place: a page that nobody sees lets go of its own.
let missed = false;
let refusals = 0;
let followed = new Set();

function unfollow() {
  source?.close();
  source = null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    unfollow();
    missed = true;
  } else {
    follow();
  }
});
addEventListener("pagehide", unfollow);
addEventListener("pageshow", (event) => {
  follow();
  if (event.persisted) {
    document.querySelectorAll("[data-disabled-by-htmx]").forEach((each) => (each.disabled = false));
  }
});

// What no news tell of, such as traffic: it is fetched again by the clock while somebody sees it.
setInterval(() => {
  if (!document.hidden && document.querySelector("main [data-fades]")) {
    soon();
  }
}, 5000);

// -- notices

function notice(text, kind) {
  const shown = document.createElement("div");
  shown.className = kind === "error" ? "notice notice-error" : "notice";
  shown.textContent = text;
  document.getElementById("notices").append(shown);
  setTimeout(() => shown.remove(), kind === "error" ? 12000 : 6000);
}

const waiting = sessionStorage.getItem("wireloom-notice");
if (waiting) {
  sessionStorage.removeItem("wireloom-notice");
  notice(waiting);
}

document.addEventListener("htmx:beforeOnLoad", (event) => {
  const answer = event.detail.xhr;
  const text = decodeURIComponent(answer.getResponseHeader("X-Notice") ?? "");
  if (text && answer.getResponseHeader("HX-Redirect")) {
    sessionStorage.setItem("wireloom-notice", text);
  } else if (text) {
    notice(text, answer.getResponseHeader("X-Notice-Kind"));
  }
  if (answer.getResponseHeader("X-Refresh")) {
    if (event.detail.elt.querySelector("input[name=chosen]")) {
      forget();
    }
    document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
    soon();
  }
});
document.addEventListener("htmx:sendError", () => notice("The control plane does not answer. Is it running?", "error"));

// -- times, said anew

const STEPS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

function retime() {
  const then = document.querySelector("main").dataset.asOf;
  const now = then === undefined ? Date.now() : Date.parse(then); // What is past is told as of then.
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const seconds = (now - Date.parse(time.dateTime)) / 1000;
    const step = STEPS.find(([, size]) => seconds >= size);
    if (seconds < 30 * 86400) {
      const count = step ? Math.floor(seconds / step[1]) : 0;
      const text = step ? `${count} ${step[0]}${count === 1 ? "" : "s"} ago` : "just now";
      if (time.textContent !== text) {
        time.textContent = text;
      }
    }
  }
  for (const time of document.querySelectorAll("time[data-left]")) {
    const seconds = (Date.parse(time.dateTime) - now) / 1000;
    const [unit, size] = STEPS.find(([, size]) => seconds >= size) ?? ["second", 1];
    const count = Math.max(1, Math.round(seconds / size));
    const text = seconds <= 0 ? time.dataset.left : `${count} ${unit}${count === 1 ? "" : "s"}`;
    if (time.textContent !== text) {
      time.textContent = text;
    }
  }
}
setInterval(retime, 1000);

// -- menus, dialogs, copying, the theme

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-opens], [data-closes], [data-copies], [data-theme-next]");
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target) || target) {
      menu.open = false;
    }
  }
  if (!target) {
    if (event.target instanceof HTMLDialogElement && !("stays" in event.target.dataset)) {
      event.target.close();
    }
    return;
  }
  if (target.dataset.opens) {
    document.getElementById(target.dataset.opens).showModal();
  }
  if ("closes" in target.dataset) {
    target.closest("dialog").close();
  }
  if (target.dataset.copies) {
    navigator.clipboard.writeText(document.getElementById(target.dataset.copies).textContent.trim()).then(
      () => notice("Copied."),
      () => notice("This browser does not let pages copy: mark it and copy it by hand.", "error"),
    );
  }
  if ("themeNext" in target.dataset) {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
    document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
    localStorage.setItem("wireloom-theme", document.documentElement.dataset.theme);
  }
});

function closeMenus() {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
    closeMenus();
  }
  const typing = event.target.matches("input, select, textarea, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    const search = document.querySelector("main input[type=search]");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  }
});

// A dialog that was fetched opens itself, and goes when it is closed.
document.addEventListener("htmx:afterSwap", (event) => {
  for (const dialog of event.detail.target.querySelectorAll("dialog[data-fetched]:not([open])")) {
    closeMenus(); // What has the focus now has it again when the dialog is closed.
    dialog.showModal();
    dialog.addEventListener("close", () => dialog.remove());
  }
  follow();
  settle();
});

// A link to why a path is as it is opens a dialog; whoever wants the page itself opens it in another tab.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-explains]");
  if (link && event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey) {
    event.preventDefault();
    htmx.ajax("GET", link.getAttribute("href"), { target: "#dialogs", swap: "innerHTML" });
  }
});

// What must be typed to confirm: until then the button does nothing.
document.addEventListener("input", (event) => {
  const wanted = event.target.dataset?.confirms;
  if (wanted !== undefined) {
    event.target.form.querySelector("[data-confirmed]").disabled = event.target.value !== wanted;
  }
});

// A button that fills in a field, as if it were typed; and what is being corrected is no longer called wrong.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-fills]");
  if (button) {
    const field = document.getElementById(button.dataset.fills);
    field.value = button.dataset.with;
    field.focus();
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
});
document.addEventListener("input", (event) => event.target.removeAttribute("aria-invalid"));

// Choosing many: how many are chosen, and what can be done with them.
function settle() {
  scrolling();
  setTrack();
  for (const form of document.querySelectorAll("form[data-chooses]")) {
    const boxes = [...form.querySelectorAll("input[type=checkbox][name=chosen]:enabled")];
    const chosen = boxes.filter((box) => box.checked).length;
    for (const shown of form.querySelectorAll("[data-chosen-count]")) {
      shown.textContent = chosen;
    }
    for (const button of form.querySelectorAll("[data-needs-chosen]")) {
      button.disabled = chosen === 0;
    }
    const all = form.querySelector("input[data-chooses-all]");
    if (all) {
      all.checked = chosen > 0 && chosen === boxes.length;
      all.indeterminate = chosen > 0 && chosen < boxes.length;
    }
  }
}

// A table that is wider than its place is scrolled with the keyboard too.
function scrolling() {
  for (const wrap of document.querySelectorAll(".table-wrap")) {
    const told = { tabindex: "0", role: "group", "aria-label": "A table that scrolls sideways" };
    for (const [name, value] of Object.entries(told)) {
      if (wrap.scrollWidth > wrap.clientWidth) {
        wrap.setAttribute(name, value);
      } else {
        wrap.removeAttribute(name);
      }
    }
  }
}
addEventListener("resize", scrolling);

// Something was done with what was chosen.
function forget() {
  document.querySelectorAll("form[data-chooses] input[name=chosen]").forEach((box) => (box.checked = false));
  settle();
}

document.addEventListener("change", (event) => {
  if (event.target.matches("input[data-chooses-all]")) {
    for (const box of event.target.form.querySelectorAll("input[type=checkbox][name=chosen]:enabled")) {
      box.checked = event.target.checked;
    }
  }
  settle();
});

// -- the time machine: the page goes to another moment, and stays the page that it is

let travelling = false; // to another moment: forms that are else left alone are to lead there too
let moved = false; // while a page came, another moment was asked for
let arrangement = null; // how a map showed machines before one went through time: it shows them so from then on
let sliding = 0;
let playing = 0;
const DWELL = 1400; // milliseconds for which each moment is shown while one watches

function goTo(address) {
  arrangement ??= document.querySelector("main [data-remembered]")?.dataset.remembered ?? null;
  travelling = true;
  history.replaceState(history.state, "", address);
  document.querySelector("main").setAttribute("aria-busy", "true");
  clearTimeout(timer);
  timer = 0;
  if (refreshing) {
    moved = true;
    refreshing.abort();
  } else {
    refresh();
  }
}

function stops() {
  return [...document.querySelectorAll("#time-strip a")];
}

function setTrack() {
  const range = document.getElementById("time-range");
  if (range && !sliding) {
    range.value = range.dataset.here;
  }
}

document.addEventListener("input", (event) => {
  if (event.target.id === "time-range") {
    const stop = stops()[event.target.value];
    const text = stop.querySelector("title").textContent;
    event.target.setAttribute("aria-valuetext", text);
    document.getElementById("time-told").textContent = text;
    clearTimeout(sliding);
    sliding = setTimeout(() => {
      sliding = 0;
      goTo(stop.getAttribute("href"));
    }, 140);
  }
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-moves]");
  if (link && event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey) {
    event.preventDefault();
    if (event.isTrusted) {
      play(false);
    }
    goTo(link.getAttribute("href"));
  } else if (event.target.closest("[data-plays]")) {
    play(!playing);
  }
});

function play(on) {
  clearTimeout(playing);
  playing = 0;
  const button = document.querySelector("[data-plays]");
  button?.setAttribute("aria-pressed", on ? "true" : "false");
  if (on && button) {
    const all = stops();
    const isNow = all.length > 0 && all.at(-1).classList.contains("time-here");
    playing = setTimeout(step, DWELL);
    if (isNow) {
      goTo(all[0].getAttribute("href"));
    }
  }
}

function step() {
  const next = document.querySelector("a#time-next");
  playing = setTimeout(step, DWELL);
  if (refreshing) {
    return; // Who waits for a page sees it before the next.
  }
  if (next) {
    goTo(next.getAttribute("href"));
  } else {
    play(false);
  }
}

// What is drawn, so that what another moment changes in it can be pointed out.
function drawn() {
  const kinds = [...document.querySelectorAll(".map-line")].map((line) => [line.id, kindOf(line)]);
  const spots = [...document.querySelectorAll(".map-spot")].map((spot) => [spot.id, ""]);
  return new Map([...kinds, ...spots]);
}

function kindOf(line) {
  return ["map-direct", "map-transit", "map-none", "map-unknown"].find((kind) => line.classList.contains(kind));
}

function pointOut(before) {
  if (before.size === 0) {
    return;
  }
  for (const line of document.querySelectorAll(".map-line")) {
    line.classList.toggle("map-changed", before.get(line.id) !== kindOf(line));
  }
  for (const spot of document.querySelectorAll(".map-spot")) {
    spot.classList.toggle("map-came", !before.has(spot.id));
  }
}

// Where the tabs do not all fit, the one that is open is in view.
document.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

settle();
retime();
follow();
