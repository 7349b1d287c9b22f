"use strict";
// The dashboard: shows the status that the agent sends as events. Everything that is shown is set as text, never as
// markup: names and reasons come from etcd and from other hosts. Numbers of 64 bits come as strings (protobuf's JSON).

const SILENT_AFTER = 5000; // the agent says something every two seconds
const SUSPICIOUS_FOR = 400; // what two nodes say of a handover may cross: two owners that are no more by then were none
const CHANGES_SHOWN = 20;
const MS = 1e6;

const $ = (id) => document.getElementById(id);
let status = null;
let ahead = 0; // of our clock, the agent's, in milliseconds
let heardAt = 0;
let lease = { held: false, ttl: 0, over: 0 };
let two = { since: 0, text: "" };

// --- what to show it with

function make(tag, kind, ...content) {
  const node = document.createElement(tag);
  if (kind) node.className = kind;
  node.append(...content.filter((one) => one !== ""));
  return node;
}

function cell(tag, role, ...content) {
  const node = make(tag, "", ...content);
  node.setAttribute("role", role);
  if (role === "rowheader") node.scope = "row";
  if (role === "columnheader") node.scope = "col";
  return node;
}

function say(id, text) {
  const node = $(id);
  node.hidden = !text;
  const line = node.querySelector("p");
  if (line.textContent !== text) line.textContent = text;
}

function span(milliseconds) {
  if (milliseconds < 9.95) return `${Math.max(0, milliseconds).toFixed(1)} ms`;
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 9950) return `${(milliseconds / 1000).toFixed(1)} s`;
  const seconds = Math.floor(milliseconds / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

function clock(milliseconds) {
  const at = new Date(milliseconds);
  const time = at.toLocaleTimeString([], { hour12: false });
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString()} ${time}`;
}

const ms = (nanoseconds) => Number(nanoseconds || 0) / MS;
const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

// --- the lease, as it runs out

function showLease(held, left, ttl) {
  const bar = $("bar").firstElementChild;
  const part = held && ttl > 0 ? Math.min(1, Math.max(0, left / ttl)) : 0;
  for (const running of bar.getAnimations()) running.cancel();
  if (part > 0) bar.animate({ transform: [`scaleX(${part})`, "scaleX(0)"] }, { duration: left });
  $("bar").setAttribute("aria-valuenow", String(Math.round(part * 100)));
  $("bar").setAttribute("aria-valuetext", held ? "held" : "not held");
  lease = { held, ttl, over: performance.now() + left };
  sayLease();
}

function sayLease() {
  const left = lease.over - performance.now();
  let words = `not held (ttl ${span(lease.ttl)})`;
  if (lease.held) words = left > 0 ? `held, ${span(left)} left of ${span(lease.ttl)}` : "no renewal heard of in time";
  const more = leaseMore();
  $("lease").textContent = more ? `${words}; ${more}` : words;
}

function leaseMore() {
  const took = lease.held && ms((status.self.lease || {}).renewalNs);
  const gate = status.self.gate || {};
  const parts = [];
  if (took) parts.push(`last renewal took ${span(took)}`);
  if (gate.kind === "none") parts.push("no gate: an agent that hangs answers on");
  else if (gate.kind) parts.push(`gate ${gate.kind}${gate.owned ? "" : ", which others can change"}`);
  return parts.join("; ");
}

// --- what the nodes say

// By node: what it says of itself, if that is no older than its connection.
function voices() {
  const said = new Map([[status.self.node, status.self]]);
  for (const member of status.members) {
    if (member.status && member.peer && member.peer.connected) said.set(member.node, member.status);
  }
  return said;
}

const roleIn = (voice, group) => voice && (voice.groups || []).find((one) => one.group === group);

function rivals(said) {
  const names = new Set([...said.values()].flatMap((voice) => voice.groups.map((one) => one.group)));
  const found = [];
  for (const name of names) {
    const owners = [...said].filter(([, voice]) => (roleIn(voice, name) || {}).role === "MASTER");
    if (owners.length > 1) found.push(`${name}: ${owners.map(([node]) => node).join(" and ")} both say MASTER`);
  }
  return found.join("; ");
}

function vacant() {
  const mine = new Set(status.self.groups.map((one) => one.group));
  const names = status.groups.filter((group) => mine.has(group.name) && !group.owner).map((group) => group.name);
  return names.length > 8 ? `${names.slice(0, 8).join(", ")} and ${names.length - 8} more` : names.join(", ");
}

// --- sections

function showBanners(said) {
  const self = status.self;
  const failsafe = self.failsafe || {};
  const carried = [...said].filter(([node, voice]) => node !== self.node && voice.failsafe && voice.failsafe.active);
  const words = [];
  if (failsafe.active) {
    words.push(`Promises of the other nodes, not etcd, carry what ${self.node} owns, for ${span(Math.ceil(ms(failsafe.leftNs) / 10000) * 10000)} more at most.`);
    if (failsafe.missing.length) words.push(`No promise from ${failsafe.missing.join(", ")}.`);
  }
  if (carried.length) words.push(`Active on ${carried.map(([node]) => node).join(", ")}.`);
  say("failsafe", words.join(" "));
  const away = !(self.etcd && self.etcd.reachable) && !failsafe.active;
  say("etcd", away ? "This node can not renew its lease; what it shows of other nodes may be old." : "");
  say("paused", status.pausedBy ? `By ${status.pausedBy}: nothing moves, until somebody resumes.` : "");
  say("ownerless", vacant());
  const text = rivals(said);
  if (!text) two = { since: 0, text: "" };
  else two = { since: two.since || Date.now(), text };
  showRivals();
}

function showRivals() {
  const sure = two.since && Date.now() - two.since >= SUSPICIOUS_FOR;
  say("two-owners", sure ? two.text : "");
  if (two.since && !sure) setTimeout(showRivals, SUSPICIOUS_FOR);
}

function ownerLine(group) {
  if (!group.owner) return make("p", "", group.lastOwner ? `nobody, ${group.lastOwner} was the last` : "nobody yet");
  const line = make("p", "", `${group.owner}, epoch ${group.epoch}`);
  if (Number(group.sinceWallNs)) {
    const since = make("span", "since");
    since.dataset.since = String(ms(group.sinceWallNs));
    line.append(", for ", since);
  }
  if (group.reason) line.append(` (${group.reason})`);
  return line;
}

function showDurations() {
  for (const since of document.querySelectorAll(".since")) {
    since.textContent = span(Date.now() + ahead - Number(since.dataset.since));
  }
}

function standing(member, group, said) {
  const role = roleIn(said.get(member.node), group.name);
  const name = make("span", "cell-name", member.node);
  if (!role) {
    const priority = (member.priorities || {})[group.name];
    const owner = group.owner === member.node;
    const word = priority === undefined ? "–" : owner ? "owner by record" : "not heard";
    const td = cell("td", "cell", name, make("span", owner ? "mark owner" : "mark unheard", word));
    if (priority !== undefined) td.append(make("p", "", `priority ${priority}`));
    return td;
  }
  const td = cell("td", "cell", name, make("span", `mark ${role.role}`, role.role));
  const about = [];
  if (role.priority) about.push(`priority ${role.priority}`);
  if (role.role === "MASTER") about.push(role.addressesHeld === 1 ? "1 address" : `${role.addressesHeld} addresses`);
  if (role.addressesMissing && role.role === "MASTER") about.push(`${role.addressesMissing} missing`);
  about.push(...role.faults);
  if (about.length) td.append(make("p", "", about.join(", ")));
  return td;
}

function showGroups(said) {
  const head = $("groups").tHead.rows[0];
  head.replaceChildren(
    cell("th", "columnheader", "group and owner"),
    ...status.members.map((member) => cell("th", "columnheader", member.node)),
  );
  const rows = status.groups.map((group) => {
    const wish = group.intent ? [make("p", "", `asked by ${group.intent.by}: hand over to ${group.intent.to}`)] : [];
    const row = make("tr", "", cell("th", "rowheader", group.name, ownerLine(group), ...wish));
    row.setAttribute("role", "row");
    row.append(...status.members.map((member) => standing(member, group, said)));
    return row;
  });
  $("groups").tBodies[0].replaceChildren(...rows);
  showDurations();
}

function showFaults(said) {
  const lines = [];
  for (const [node, voice] of said) {
    for (const role of voice.groups || []) {
      for (const fault of role.faults) lines.push(make("li", "", make("span", "mark FAULT", "fault"), ` ${node}, ${role.group}: ${fault}`));
    }
    for (const alarm of voice.alarms || []) {
      const since = Number(alarm.sinceWallNs) ? ` since ${clock(ms(alarm.sinceWallNs))}` : "";
      const text = ` ${node}, ${alarm.kind} ${alarm.subject}: ${alarm.detail}`;
      lines.push(make("li", "", make("span", "mark warn", "alarm"), text, make("span", "faint", since)));
    }
  }
  $("faults").replaceChildren(...(lines.length ? lines : [make("li", "faint", "none")]));
}

function showNodes(said) {
  const lines = status.members.map((member) => {
    const line = make("li", "", make("strong", "", member.node));
    const me = member.node === status.self.node;
    const add = (kind, text) => line.append(make("span", kind, text));
    add(member.alive ? "mark" : "mark FAULT", member.alive ? "alive" : "no sign of life");
    if (member.drained) add("mark warn", "drained");
    if (me) add("faint", "answers here");
    else if (member.peer && member.peer.connected) add("faint", `connected, ${span(ms(member.peer.roundTripNs))} round trip`);
    else if (!member.endpoint) add("faint", "listens for no peers");
    else add("mark unheard", `not connected${member.peer && member.peer.error ? `: ${member.peer.error}` : ""}`);
    const voice = said.get(member.node);
    if (voice && voice.lease && !voice.lease.held) add("mark warn", "lease not held");
    if (voice && voice.stopping) add("mark warn", "stopping");
    if (voice && voice.gate && voice.gate.kind === "none") add("mark warn", "no gate");
    if (member.release) add("faint", `version ${member.release}`);
    return line;
  });
  $("nodes").replaceChildren(...lines);
}

function showChanges() {
  const newest = status.changes.slice(-CHANGES_SHOWN).reverse();
  const lines = newest.map((change) => {
    const gap = Number(change.gapNs) ? `${span(ms(change.gapNs))} without an owner` : "";
    const time = make("time", "", clock(ms(change.atWallNs)));
    time.dateTime = new Date(ms(change.atWallNs)).toISOString();
    return make(
      "li",
      "",
      time,
      make("strong", "", change.group),
      make("span", "", `${change.before} → ${change.after}`),
      make("span", "", change.why),
      make("span", "faint", [`epoch ${change.epoch}`, gap].filter(Boolean).join(", ")),
    );
  });
  $("changes").replaceChildren(...(lines.length ? lines : [make("li", "faint", "none since the agent started")]));
}

function show() {
  const said = voices();
  const self = status.self;
  $("cluster").textContent = status.cluster;
  $("seen-by").textContent = `as ${self.node} sees it${self.stopping ? ", which is stopping" : ""}; version ${self.release}`;
  const owned = self.groups.filter((one) => one.role === "MASTER").length;
  document.title = `${self.node}: ${owned} of ${count(self.groups.length, "group")} – haagent`;
  showBanners(said);
  showGroups(said);
  showFaults(said);
  showNodes(said);
  showChanges();
}

// --- what is heard

function heard() {
  heardAt = Date.now();
  say("stale", "");
  document.body.classList.remove("stale");
}

function checkStale() {
  if (heardAt && Date.now() - heardAt < SILENT_AFTER) return;
  const since = heardAt ? `since ${clock(heardAt)}` : "since this page was opened";
  say("stale", `Nothing heard from the agent ${since}. What is shown may be wrong.`);
  document.body.classList.add("stale");
}

const source = new EventSource("events");
source.addEventListener("status", (event) => {
  status = JSON.parse(event.data);
  ahead = ms(status.atWallNs) - Date.now();
  heard();
  show();
  const said = status.self.lease || {};
  showLease(said.held, ms(said.leftNs), ms(said.ttlNs));
});
source.addEventListener("lease", (event) => {
  heard();
  const said = JSON.parse(event.data);
  if (status) showLease(said.left > 0, said.left, said.ttl);
});
source.addEventListener("error", () => {
  // The agent is gone, or it let us go: the browser tries again by itself, and this is over with the next event.
  say("stale", `No connection with the agent since ${clock(heardAt || Date.now())}. What is shown may be wrong.`);
  document.body.classList.add("stale");
});
setInterval(checkStale, 1000);
setInterval(showDurations, 1000);
setInterval(() => status && sayLease(), 100);
