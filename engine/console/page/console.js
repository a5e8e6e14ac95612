// The console's page: asks the daemon, and shows its answers.
//
// Whatever comes from the daemon may hold the name of a stranger's file. It becomes text and
// nothing else: this file builds elements itself and only ever sets their text.
"use strict";

(() => {
  // While a backup runs, and while none does. Neither question wakes a disk.
  const RUNNING_MS = 2000;
  const IDLE_MS = 15000;
  const TOKEN_KEY = "holdfast-token";

  const by = (id) => document.getElementById(id);
  const cards = new Map();
  let token = "";
  // Each time a token is given, or forgotten, a new round begins; what an older one asked for is
  // answered to nobody.
  let round = 0;
  let timer = 0;
  let isAsking = false;
  let isAskedMeanwhile = false;
  let isLooking = false;
  let isAnyRunning = false;
  let isGone = false;

  // ---- the token

  // A browser may forbid us to keep anything: then the token is known until the page is closed.
  function kept() {
    try { return localStorage.getItem(TOKEN_KEY) || ""; } catch { return ""; }
  }

  function keep(value) {
    token = value;
    try {
      if (value) { localStorage.setItem(TOKEN_KEY, value); }
      else { localStorage.removeItem(TOKEN_KEY); }
    } catch { /* It is known until the page is closed. */ }
  }

  // The token in an address or alone; an address without one has none.
  function tokenIn(text) {
    const found = /[#&]token=([A-Za-z0-9-]+)/.exec(text);
    if (found) { return found[1]; }
    const alone = text.trim();
    return /^[A-Za-z0-9-]+$/.test(alone) ? alone : "";
  }

  // Takes the token out of the address, so that no history or bookmark keeps it.
  function takeFromAddress() {
    const given = location.hash ? tokenIn(location.hash) : "";
    if (given) { keep(given); }
    const path = location.pathname.replace(/^\/\/+/, "/");
    if (location.hash || path !== location.pathname) { history.replaceState(null, "", path); }
    return given !== "";
  }

  // ---- asking

  class Refused extends Error {
    constructor(status, fact, remedy) {
      super(fact);
      this.status = status;
      this.remedy = remedy;
    }
  }

  async function ask(method, path) {
    let response;
    try {
      response = await fetch(path, {
        method, cache: "no-store", credentials: "omit",
        headers: { Authorization: "Bearer " + token },
      });
    } catch {
      throw new Refused(0, "This computer does not answer.",
        "Holdfast may be stopped, or this computer is off. This page goes on asking.");
    }
    const answer = await response.json().catch(() => null);
    if (response.ok && answer !== null) { return answer; }
    throw new Refused(response.status, (answer && answer.fact) || "The answer was not understood.",
      (answer && answer.remedy) || "Load this page again.");
  }

  async function answerOf(method, path) {
    try { return { said: await ask(method, path) }; } catch (error) { return { error }; }
  }

  // ---- words

  const UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB"];

  function bytes(count) {
    if (count < 1024) { return count + " B"; }
    let value = count / 1024;
    let unit = 0;
    while (value >= 1000 && unit + 1 < UNITS.length) { value /= 1024; unit += 1; }
    return value.toFixed(1) + " " + UNITS[unit];
  }

  function number(count, one, many) {
    return count.toLocaleString() + " " + (count === 1 ? one : many);
  }

  const files = (count) => number(count, "file", "files");
  const moment = (seconds) => new Date(seconds * 1000).toLocaleString();

  function duration(ms) {
    const all = Math.ceil(ms / 1000);
    const two = (value) => String(value).padStart(2, "0");
    const minutes = Math.floor(all / 60) % 60;
    const hours = Math.floor(all / 3600);
    return (hours ? hours + ":" + two(minutes) : minutes) + ":" + two(all % 60);
  }

  // Characters that are not seen, or turn the ones beside them around, are shown as numbers.
  const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

  function seen(text) {
    return text.replace(UNSEEN, (one) => "\\u{" + one.charCodeAt(0).toString(16) + "}");
  }

  function summaryText(summary) {
    return [
      files(summary.files_new) + " new, " + summary.files_changed.toLocaleString() + " changed, " +
        summary.files_unmodified.toLocaleString() + " unmodified; " +
        bytes(summary.total_bytes) + " in all",
      bytes(summary.data_added_bytes) + " new, " + bytes(summary.stored_bytes) + " stored, in " +
        duration(summary.elapsed_ms),
      "snapshot " + summary.snapshot.slice(0, 8),
    ].join("\n");
  }

  // ---- showing

  function say(node, text) {
    if (node.textContent !== text) { node.textContent = text; }
  }

  function show(node, isShown) {
    if (node.hidden === isShown) { node.hidden = !isShown; }
  }

  function element(name, kind, text) {
    const made = document.createElement(name);
    if (kind) { made.className = kind; }
    if (text !== undefined) { made.textContent = text; }
    return made;
  }

  // A row of a list of facts; gives the place of its value.
  function row(list, term) {
    const pair = element("div");
    const value = element("dd");
    pair.append(element("dt", "", term), value);
    list.append(pair);
    return { pair, value };
  }

  function fill(field, text) {
    show(field.pair, text !== "");
    say(field.value, text);
  }

  function mark(node, kind, text) {
    node.className = "state " + kind;
    say(node, text);
  }

  function trouble(error) {
    say(by("fact"), seen(error.message));
    say(by("remedy"), "What to do: " + seen(error.remedy || "load this page again"));
    show(by("refusal"), true);
  }

  // ---- backup sets

  function newCard(name, index) {
    const card = element("article");
    const title = element("h3", "", seen(name));
    title.id = "set-" + index;
    card.setAttribute("aria-labelledby", title.id);
    const head = element("div", "head");
    const state = element("span", "state");
    head.append(title, state);
    const list = element("dl");
    const progress = element("progress");
    progress.setAttribute("aria-label", "Progress of " + seen(name));
    const now = element("p", "now");
    const failed = element("div", "trouble");
    const fact = element("p");
    const remedy = element("p");
    failed.append(fact, remedy);
    const unread = element("details");
    const unreadTitle = element("summary");
    const unreadList = element("ul");
    unread.append(unreadTitle, unreadList);
    const button = element("button", "", "Back up now");
    button.type = "button";
    button.setAttribute("aria-describedby", title.id);
    button.addEventListener("click", () => run(name, button));
    const made = {
      card, state, progress, now, failed, fact, remedy, unread, unreadTitle, unreadList, button,
      what: row(list, "What"), without: row(list, "Left out"), where: row(list, "Where to"),
      begun: row(list, "Last run"), complete: row(list, "Last complete"), said: "", news: "",
    };
    card.append(head, list, progress, now, failed, unread, button);
    by("sets").append(card);
    return made;
  }

  function showSet(card, set) {
    const last = set.last_run;
    const ended = last && last.ended;
    const done = ended && ended.done;
    const complete = set.last_complete;
    const isRunning = Boolean(last) && !ended;
    fill(card.what, set.paths.map(seen).join("\n"));
    fill(card.without, set.excludes.map(seen).join("\n"));
    fill(card.where, seen(set.destination));
    fill(card.begun, last ? "began " + moment(last.started_at) : "");
    fill(card.complete, complete
      ? moment(complete.ended_at) + "\n" + summaryText(complete.summary) : "none yet");
    const summary = done || (!last && complete && complete.summary);
    let state = ["warn", "not backed up yet"];
    if (isRunning) { state = ["busy", "backing up"]; }
    else if (ended && ended.failed) { state = ["bad", "failed"]; }
    else if (summary && summary.unreadable_count > 0) {
      state = ["warn", "complete, but " + files(summary.unreadable_count) + " could not be read"];
    } else if (summary) { state = ["good", "complete"]; }
    mark(card.state, state[0], state[1]);
    announce(card, set.name, state[1]);
    showProgress(card, last, isRunning);
    show(card.failed, Boolean(ended && ended.failed));
    if (ended && ended.failed) {
      say(card.fact, seen(ended.failed.fact));
      say(card.remedy, "What to do: " + seen(ended.failed.remedy || "look into the history log"));
    }
    showUnread(card, summary);
    card.button.disabled = isRunning;
    return isRunning;
  }

  function announce(card, name, state) {
    if (card.news && card.news !== state) { say(by("news"), seen(name) + ": " + state); }
    card.news = state;
  }

  function showProgress(card, last, isRunning) {
    show(card.progress, isRunning);
    show(card.now, isRunning);
    if (!isRunning) { return; }
    if (last.bytes_total) {
      card.progress.max = last.bytes_total;
      card.progress.value = Math.min(last.bytes_done, last.bytes_total);
    } else { card.progress.removeAttribute("value"); }
    const of = (value) => (value === null ? "" : " of " + value);
    say(card.now, last.files_done.toLocaleString() +
      of(last.files_total === null ? null : last.files_total.toLocaleString()) + " files, " +
      bytes(last.bytes_done) + of(last.bytes_total === null ? null : bytes(last.bytes_total)) +
      (last.current ? "; now " + seen(last.current) : ""));
  }

  function showUnread(card, summary) {
    const count = summary ? summary.unreadable_count : 0;
    show(card.unread, count > 0);
    const said = count > 0 ? JSON.stringify(summary.unreadable) : "";
    if (said === card.said) { return; }
    card.said = said;
    card.unreadList.replaceChildren();
    if (count === 0) { return; }
    say(card.unreadTitle, files(count) + " could not be read; everything else is in the snapshot");
    for (const line of summary.unreadable) {
      card.unreadList.append(element("li", "", seen(line)));
    }
    if (count > summary.unreadable.length) {
      card.unreadList.append(element("li", "", "and " +
        files(count - summary.unreadable.length) + " more: see the history log"));
    }
    card.unreadList.append(element("li", "",
      "What to do: give the user Holdfast runs as permission to read them, or leave them out"));
  }

  function showSets(sets) {
    show(by("no-sets"), sets.length === 0);
    const names = new Set(sets.map((set) => set.name));
    for (const [name, card] of cards) {
      if (!names.has(name)) { card.card.remove(); cards.delete(name); }
    }
    const wereRunning = isAnyRunning;
    isAnyRunning = false;
    sets.forEach((set) => {
      if (!cards.has(set.name)) { cards.set(set.name, newCard(set.name, ++newest)); }
      isAnyRunning = showSet(cards.get(set.name), set) || isAnyRunning;
    });
    if (wereRunning && !isAnyRunning) { look(); }
  }

  let newest = 0;

  async function run(name, button) {
    const mine = round;
    button.disabled = true;
    const answer = await answerOf("POST", "v1/sets/" + encodeURIComponent(name) + "/run");
    if (mine !== round) { return; }
    if (answer.error) { failed(answer.error); } else {
      show(by("refusal"), false);
      isAnyRunning = true;
    }
    poll();
  }

  // ---- this computer and its destinations

  function showStatus(status) {
    say(by("guid"), seen(status.guid));
    say(by("version"), seen(status.version));
    say(by("memory"), bytes(status.memory.total_bytes) + ", which it keeps to");
    say(by("since"), moment(status.started_at));
    const where = status.console && status.console.trouble;
    show(by("console-trouble"), Boolean(where));
    say(by("console-trouble"), where ? seen(where) : "");
    const list = by("destinations");
    list.replaceChildren();
    show(by("no-destinations"), status.destinations.length === 0);
    for (const place of status.destinations) {
      const card = element("article");
      const head = element("div", "head");
      const state = element("span");
      head.append(element("h3", "", seen(place.name)), state);
      const isThere = place.cannot_connect === null;
      mark(state, isThere ? "good" : "bad", isThere ? "connected" : "cannot connect");
      const facts = element("dl");
      fill(row(facts, "Where"), seen(place.location));
      fill(row(facts, "Why not"), isThere ? "" : seen(place.cannot_connect));
      card.append(head, facts);
      list.append(card);
    }
    say(by("looked"), "Looked at " + new Date().toLocaleTimeString() + ".");
  }

  // Asks the destinations, too: only at the beginning, after a run, and when the reader wants it.
  async function look() {
    if (isLooking) { return; }
    const mine = round;
    isLooking = true;
    by("look").disabled = true;
    say(by("looked"), "Looking…");
    const answer = await answerOf("GET", "v1/status");
    if (mine !== round) { return; }
    isLooking = false;
    by("look").disabled = false;
    if (answer.error) {
      say(by("looked"), "");
      failed(answer.error);
    } else { showStatus(answer.said); }
  }

  // ---- the course of things

  function failed(error) {
    trouble(error);
    isGone = isGone || error.status === 0;
    if (error.status === 401) { enter(); }
  }

  async function poll() {
    clearTimeout(timer);
    if (!token) { return; }
    if (isAsking) { isAskedMeanwhile = true; return; }
    const mine = round;
    isAsking = true;
    const answer = await answerOf("GET", "v1/sets");
    if (mine !== round) { return; }
    isAsking = false;
    const wasGone = isGone;
    isGone = false;
    if (answer.error) { failed(answer.error); } else {
      showSets(answer.said);
      show(by("all"), true);
      if (wasGone) {
        show(by("refusal"), false);
        look();
      }
    }
    if (isAskedMeanwhile) { isAskedMeanwhile = false; poll(); } else { again(); }
  }

  // A page nobody looks at asks nothing.
  function again() {
    clearTimeout(timer);
    if (!token || document.hidden) { return; }
    timer = setTimeout(poll, isAnyRunning ? RUNNING_MS : IDLE_MS);
  }

  function enter() {
    round += 1;
    token = "";
    clearTimeout(timer);
    show(by("all"), false);
    show(by("enter"), true);
  }

  function begin() {
    round += 1;
    isAsking = isAskedMeanwhile = isLooking = isGone = isAnyRunning = false;
    show(by("refusal"), false);
    if (!token) { enter(); return; }
    show(by("enter"), false);
    poll();
    look();
  }

  by("form").addEventListener("submit", (event) => {
    event.preventDefault();
    keep(tokenIn(by("token").value));
    by("token").value = "";
    begin();
    if (!token) {
      trouble(new Refused(401, "This is no token, and no address with one.",
        "copy the whole line that holdfast console prints"));
    }
  });
  by("forget").addEventListener("click", () => { keep(""); begin(); });
  by("look").addEventListener("click", look);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { again(); } else { poll(); }
  });
  window.addEventListener("hashchange", () => { if (takeFromAddress()) { begin(); } });

  if (!takeFromAddress()) { token = kept(); }
  begin();
})();
