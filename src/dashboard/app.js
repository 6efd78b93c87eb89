/* app.js - the status page: projects, and for one project its counts, active model, training runs and annotators.
 * Reads the public HTTP interface every few seconds; nothing here that a user could not ask with curl. All text from the
 * server goes through textContent (names are other people's input). */
"use strict";

const REFRESH_MS = 2500;
const main = document.getElementById("main");
const serverLine = document.getElementById("server");
const tokenForm = document.getElementById("token");
const tokenInput = document.getElementById("token-input");
let timer = 0;
let turn = 0; /* a page that has been left must not draw over the next one */

/* ---- small helpers ---- */

/* h("p.soft", {title: ".."}, "text", node, ...) makes an element; strings become text nodes. */
function h(what, attributes, ...children) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) element.append(child);
  return element;
}

const count = new Intl.NumberFormat();
const number = (x) => (x === null || x === undefined ? "–" : count.format(x));
const percent = (x) => (x === null || x === undefined ? "–" : (100 * x).toFixed(1) + " %");
const when = (t) => (t ? new Date(t).toLocaleString() : "–");
const path = (project) => "/v1/projects/" + encodeURIComponent(project);

class Refused extends Error {}

async function ask(url, options) {
  const token = sessionStorage.getItem("token");
  const headers = { Accept: "application/json", ...(token ? { Authorization: "Bearer " + token } : {}), ...(options && options.headers) };
  const answer = await fetch(url, { cache: "no-store", ...options, headers });
  if (answer.status === 401) throw new Refused();
  const body = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw new Error(body && body.detail ? body.detail : "answer " + answer.status);
  return body;
}

function figures(pairs) {
  return h("dl.figures", null, pairs.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, String(value)))));
}

function table(heads, rows) {
  const cell = (tag, value, numeric) => h(tag + (numeric ? ".number" : ""), null, value);
  return h("div.scroll", null, h("table", null,
    h("thead", null, h("tr", null, heads.map((head) => cell("th", head.replace(/^#/, ""), head.startsWith("#"))))),
    h("tbody", null, rows.map((row) => h("tr", null, row.map((value, i) => cell("td", value, heads[i].startsWith("#"))))))));
}

/* ---- the pages ---- */

async function drawServer() {
  const about = await ask("/v1/");
  serverLine.textContent = "version " + about.version;
}

async function drawProjects() {
  const list = await ask("/v1/projects?limit=200");
  if (list.items.length === 0) {
    return [h("section.card", null, h("h2", null, "No project yet"),
      h("p", null, "Make one and send what your annotators said:"),
      h("pre", null, "curl -X POST " + location.origin + "/v1/projects -H 'Content-Type: application/json' \\\n" +
        "  -d '{\"name\":\"pets\",\"classes\":[\"cat\",\"dog\"],\"feature_dim\":2}'"))];
  }
  return [h("div.cards", null, list.items.map((project) => h("a.card", { href: "#" + encodeURIComponent(project.name) },
    h("h2", null, project.title || project.name),
    figures([["instances", number(project.counts.instances)], ["annotators", number(project.counts.annotators)],
      ["labels", number(project.counts.labels)], ["model", project.active_model === null ? "none" : project.active_model]]))))];
}

function metricsOf(model) {
  const split = ["test", "valid"].find((name) => model.metrics && model.metrics[name]);
  if (!split) return [h("p.soft", null, "No gold labels in the test or valid part, so no accuracy to tell.")];
  const m = model.metrics[split];
  const range = m.accuracy_interval ? " (" + m.accuracy_interval.map(percent).join(" to ") + ")" : "";
  const pairs = [["accuracy on " + split + " (n = " + number(m.n) + ")", percent(m.accuracy) + range]];
  if (m.majority_vote_accuracy !== null && m.majority_vote_accuracy !== undefined)
    pairs.push(["majority vote", percent(m.majority_vote_accuracy)]);
  pairs.push(["calibration error", percent(m.ece)]);
  return [figures(pairs)];
}

function runRow(run) {
  const share = run.progress ? run.progress.fraction : run.state === "succeeded" ? 1 : 0;
  return [String(run.id), h("span.state-" + run.state, null, run.state),
    run.state === "running" ? h("progress", { max: 1, value: share, "aria-label": "progress of run " + run.id }) : "",
    run.progress && run.progress.epoch !== null && run.progress.epoch !== undefined ? run.progress.epoch + " / " + run.progress.epochs : "",
    run.model === null ? "–" : String(run.model), when(run.finished_at || run.started_at || run.queued_at),
    run.error ? (run.error.detail || String(run.error)) : ""];
}

async function drawProject(name) {
  const url = path(name);
  const [project, runs] = await Promise.all([ask(url), ask(url + "/training-runs?limit=8")]);
  const sections = [h("section.card", null, h("h2", null, project.title || project.name),
    figures([["instances", number(project.counts.instances)], ["annotators", number(project.counts.annotators)],
      ["labels", number(project.counts.labels)], ["gold labels", number(project.counts.gold)],
      ["classes", number(project.classes.length)], ["features", number(project.feature_dim)]]))];
  if (project.active_model !== null) {
    const model = await ask(url + "/models/" + project.active_model);
    sections.push(h("section.card", null, h("h3", null, "Active model " + model.number),
      h("p.soft", null, model.method + ", trained on " + number(model.labels_used) + " labels, " + when(model.created_at)), metricsOf(model)));
  }
  const train = h("button", { click: async () => {
    train.disabled = true;
    try { await ask(url + "/training-runs", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" }); }
    catch (error) { showError(error); return; }
    show();
  } }, "Train now");
  sections.push(h("section.card", null, h("h3", null, "Training runs"),
    runs.items.length ? table(["#run", "state", "", "#epoch", "#model", "when", ""], runs.items.map(runRow))
      : h("p.soft", null, "None yet."), h("p", null, train)));
  const reliability = await ask(url + "/reliability?limit=200");
  const items = reliability.items.slice().sort((a, b) => (b.reliability ?? -1) - (a.reliability ?? -1));
  sections.push(h("section.card", null, h("h3", null, "Annotators, most reliable first"),
    items.length ? table(["annotator", "#reliability", "", "#labels", "#right of gold", "basis"], items.map((item) => [
      item.annotator, percent(item.reliability),
      h("meter", { min: 0, max: 1, value: item.reliability ?? 0, "aria-label": "reliability of " + item.annotator }),
      number(item.labels), item.against_gold && item.against_gold.of ? item.against_gold.right + " / " + item.against_gold.of : "–", item.basis || ""]))
      : h("p.soft", null, "Nobody has labelled yet.")));
  return sections;
}

/* ---- what is shown ---- */

function showError(error) {
  if (error instanceof Refused) {
    main.replaceChildren();
    tokenForm.hidden = false;
    serverLine.textContent = "a token is needed";
    tokenInput.focus();
    return;
  }
  serverLine.textContent = "no answer";
  const note = h("p.error", { role: "alert" }, error.message);
  const old = main.querySelector("[role=alert]");
  if (old) old.replaceWith(note); else main.prepend(note);
}

async function show() {
  clearTimeout(timer);
  const mine = ++turn;
  try {
    const name = decodeURIComponent(location.hash.slice(1));
    const sections = name ? await drawProject(name) : await drawProjects();
    await drawServer();
    if (mine !== turn) return;
    tokenForm.hidden = true;
    document.title = name ? name + " – annotmixd" : "annotmixd";
    main.replaceChildren(...sections);
  } catch (error) {
    if (mine !== turn) return;
    showError(error);
    if (error instanceof Refused) return; /* the form starts again */
  }
  timer = setTimeout(show, document.hidden ? 4 * REFRESH_MS : REFRESH_MS);
}

tokenForm.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", tokenInput.value.trim());
  tokenInput.value = "";
  show();
});
window.addEventListener("hashchange", show);
show();
