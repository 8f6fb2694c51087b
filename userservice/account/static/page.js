// The page to which links in e-mails lead. It keeps nothing but in memory, and sets text as text.

// Before anything else the token leaves the address bar, and with it the history.
let token = takeToken();

const byId = (id) => document.getElementById(id);
const words = JSON.parse(byId("words").textContent);
const TIMEOUT_MS = 30_000;
const TOKEN = /^([a-z]+)\.[0-9a-f]{32}\.([0-9]+)\.[A-Za-z0-9_-]{43}$/;
// Purpose of a link -> its form. Without a link there is the form "forgot".
const FORMS = new Map([
  ["reset", "choose"],
  ["invite", "choose"],
  ["printed", "choose"],
  ["verify", "confirm"],
  ["change", "confirm"],
]);
const ACTIONS = { forgot, choose, confirm };

let view = "forgot";
let isBusy = false;
// Whether a request had no answer: it may have been done all the same.
let wasLost = false;
// The log-in that confirming needs. It ends at once after that, or with the page.
let session = null;

function takeToken() {
  const found = location.hash.slice(1);
  history.replaceState(null, "", location.pathname + location.search);
  return found;
}

// Purpose and expiry stand in the token; whether it holds the service alone knows.
function readLink() {
  const [, purpose, expiresAt] = TOKEN.exec(token) ?? [];
  return FORMS.has(purpose) ? { purpose, expiresAt: Number(expiresAt) } : null;
}

// By the clock of the service: that of the device may be wrong.
function isOver(moment) {
  return moment <= Number(document.body.dataset.now) + performance.now() / 1000;
}

function start() {
  const link = token ? readLink() : null;
  if (!token) {
    show("forgot");
  } else if (link === null) {
    token = "";
    show("forgot", words.messages.garbled);
  } else if (isOver(link.expiresAt)) {
    giveUp(link.purpose, words.messages.expired);
  } else {
    show(link.purpose);
  }
}

// Show the form of a view alone; above it an alert, if there is a reason for one.
function show(name, ...alert) {
  view = name;
  showForms(FORMS.get(name) ?? "forgot");
  const { title, lead, button } = words.views[name];
  byId("title").textContent = title;
  byId("lead").textContent = lead;
  byId("unscripted").hidden = true;
  document.title = `${title} – ${document.querySelector("header").textContent}`;
  for (const each of document.querySelectorAll("form:not([hidden]) button:not(.peek)")) {
    each.textContent = button;
  }
  complain(...alert);
}

function showForms(...ids) {
  for (const form of document.forms) {
    form.hidden = !ids.includes(form.id);
    form.reset();
    form.querySelectorAll(".peek").forEach((button) => peek(button, false));
  }
}

function succeed() {
  const { done, after } = words.views[view];
  close(done, after);
}

function close(title, lead) {
  token = "";
  show(view);
  showForms();
  byId("title").textContent = title;
  byId("lead").textContent = lead;
  byId("title").focus();
}

// The link does not hold. Where a new one can be asked for here, show the form for it.
function giveUp(purpose, reason) {
  const { again, again_elsewhere, maybe_done } = words.messages;
  const known = wasLost ? [reason, maybe_done] : [reason];
  if (FORMS.get(purpose) === "choose") {
    token = "";
    show("forgot", ...known, again);
    byId("forgot-address").focus({ preventScroll: true });
  } else {
    stop(purpose, ...known, again_elsewhere);
  }
}

function stop(purpose, ...alert) {
  view = purpose;
  close(words.views[purpose].title, "");
  complain(...alert);
}

// An alert is read aloud when its text changes.
function complain(...texts) {
  for (const field of document.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
  }
  byId("alert").textContent = texts.join(" ");
  byId("alert").scrollIntoView({ block: "nearest" });
}

function complainOf(field, ...texts) {
  complain(...texts);
  field.setAttribute("aria-invalid", "true");
  field.focus({ preventScroll: true });
}

// Return an answer with its document; its status is 0 where none came. Paths begin where this
// page is mounted.
async function send(path, options) {
  try {
    const signal = AbortSignal.timeout?.(TIMEOUT_MS);
    const answer = await fetch(path, { method: "POST", cache: "no-store", signal, ...options });
    const document = await answer.json().catch(() => ({}));
    return { ...document, ok: answer.ok, status: answer.status, headers: answer.headers };
  } catch {
    wasLost = true;
    return { ok: false, status: 0 };
  }
}

function sendJson(path, body, headers) {
  const type = { "Content-Type": "application/json" };
  return send(path, { body: JSON.stringify(body), headers: { ...type, ...headers } });
}

function waitOf(answer) {
  const seconds = Number(answer.headers.get("Retry-After"));
  if (!(seconds > 0)) {
    return words.messages.later;
  }
  const units = [["hour", 3600], ["minute", 60], ["second", 1]];
  const [unit, size] = units.find(([, each]) => seconds >= 2 * each) ?? units.at(-1);
  return new Intl.RelativeTimeFormat(words.language).format(Math.ceil(seconds / size), unit);
}

// The service's own reason, such as that a password is easy to guess.
function reasonOf({ errors = [], detail }) {
  return errors.map((each) => `${each.detail}.`).join(" ") || detail;
}

// Failures that any request may have.
function complainOfService(answer) {
  const { offline, too_many, busy, failed } = words.messages;
  if (answer.status === 0) {
    complain(offline);
  } else if (answer.status === 429) {
    complain(too_many.replace("{time}", () => waitOf(answer)));
  } else if (answer.status === 503) {
    complain(busy.replace("{time}", () => waitOf(answer)));
  } else {
    complain(failed.replace("{id}", () => answer.headers.get("X-Request-ID") ?? answer.status));
  }
}

async function forgot({ email }) {
  const answer = await sendJson("auth/password/forgot", { email: email.value });
  if (answer.ok) {
    succeed();
  } else if (answer.status === 400) {
    complainOf(email, reasonOf(answer));
  } else {
    complainOfService(answer);
  }
}

async function choose({ new_password }) {
  const body = { token, new_password: new_password.value };
  const answer = await sendJson("auth/password/reset", body);
  if (answer.ok) {
    succeed();
  } else if (answer.code === "invalid_token") {
    giveUp(view, words.messages.dead);
  } else if (answer.status === 400) {
    complainOf(new_password, reasonOf(answer));
  } else {
    complainOfService(answer);
  }
}

async function confirm(fields) {
  if (!(await logIn(fields))) {
    return;
  }
  const headers = { Authorization: `Bearer ${session.access_token}` };
  const answer = await sendJson("auth/email/confirm", { token }, headers);
  const isDead = answer.code === "invalid_token";
  const isForeign = isDead && (await isOfAnother(headers));
  logOut();
  const { dead, foreign, taken } = words.messages;
  if (answer.ok) {
    succeed();
  } else if (isForeign) {
    complainOf(fields.username, foreign);
  } else if (isDead) {
    giveUp(view, dead);
  } else if (answer.status === 409) {
    stop(view, taken);
  } else {
    complainOfService(answer);
  }
}

// Tell whether the link belongs to another user than the one who has logged in.
async function isOfAnother(headers) {
  const { ok, id } = await send("users/me", { method: "GET", headers });
  return ok && id.replaceAll("-", "") !== token.split(".")[1];
}

// Tell whether there is a session now.
async function logIn({ username, password }) {
  const body = new URLSearchParams({
    grant_type: "password",
    username: username.value,
    password: password.value,
  });
  const answer = await send("auth/token", { body });
  const { wrong, maybe_done } = words.messages;
  if (answer.access_token) {
    session = answer;
  } else if (answer.code === "invalid_grant") {
    complainOf(password, wrong, ...(wasLost ? [maybe_done] : []));
  } else {
    complainOfService(answer);
  }
  return session !== null;
}

// Also while the page is being left: keepalive lets the request outlive it.
function logOut() {
  if (session !== null) {
    const body = new URLSearchParams({ token: session.refresh_token });
    session = null;
    send("auth/revoke", { body, keepalive: true });
  }
}

async function submit(event) {
  event.preventDefault();
  if (isBusy) {
    return;
  }
  const form = event.target;
  const button = form.querySelector("button:not(.peek)");
  isBusy = true;
  button.setAttribute("aria-disabled", "true");
  complain();
  try {
    await ACTIONS[form.id](form.elements);
  } finally {
    button.removeAttribute("aria-disabled");
    isBusy = false;
  }
}

// Show a password as it is typed, or dots in its place.
function peek(button, isShown) {
  fieldOf(button).type = isShown ? "text" : "password";
  button.textContent = isShown ? words.labels.hide : words.labels.show;
}

function fieldOf(button) {
  return byId(button.getAttribute("aria-controls"));
}

for (const form of document.forms) {
  form.addEventListener("submit", submit);
}
for (const button of document.querySelectorAll(".peek")) {
  button.addEventListener("click", () => peek(button, fieldOf(button).type === "password"));
}
addEventListener("pagehide", logOut);
// Another link, opened in the same tab: begin anew, so that nothing of this one is left.
addEventListener("hashchange", () => location.reload());
start();
