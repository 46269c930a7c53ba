"use strict";
(() => {
  const $ = (selector) => document.querySelector(selector);
  const COLOURS = ["--base", "--c0", "--c1", "--c2", "--c3", "--c4", "--c5"];
  const DASHES = ["solid", "dot", "dash", "longdash", "dashdot", "longdashdot"];
  const VIEWS = [
    ["metric", "curve"], ["loss", "curve"], ["training loss", "curve"],
    ["cosine", "predictions"], ["error", "predictions"], ["relative_jump", "predictions"],
    ["accepted", "predictions"],
  ];
  const TITLES = {
    loss: "validation loss", "training loss": "training loss",
    cosine: "cosine of jump and next step", error: "prediction error",
    relative_jump: "jump / weights", accepted: "share of predictions accepted",
  };
  const methods = [];
  let shown = "metric", cell = null, last = null, drawn = "";

  const title = (name, view) => TITLES[name] || "validation " + view.metric;
  const number = (value, digits) =>
    value === null || value === undefined ? "–" : value.toPrecision(digits || 4);
  const name = (arm) =>
    arm.method + (arm.share === 1 ? "" : " at " + arm.share + " T") + ", lr " + Number(arm.lr.toPrecision(4));

  function element(kind, text) {
    const made = document.createElement(kind);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function table(target, heads, rows) {
    const head = element("thead"), body = element("tbody"), top = element("tr");
    for (const text of heads) {
      const cellHead = element("th", text);
      cellHead.scope = "col";
      top.append(cellHead);
    }
    head.append(top);
    for (const row of rows) {
      const line = element("tr");
      for (const part of row) {
        const place = element("td");
        place.append(part);
        line.append(place);
      }
      body.append(line);
    }
    target.replaceChildren(head, body);
  }

  function bar(done, total, label) {
    const made = element("progress");
    made.max = total || 1;
    made.value = done;
    made.setAttribute("aria-label", label);
    return made;
  }

  function duration(seconds) {
    if (seconds < 120) return seconds.toFixed(0) + " s";
    return seconds < 7200 ? (seconds / 60).toFixed(0) + " min" : (seconds / 3600).toFixed(1) + " h";
  }

  function progress(view) {
    $("#progress").replaceChildren(...view.phases.map((phase) => {
      const line = element("div");
      const of = phase.total === null ? "" : " of " + phase.total;
      line.append(element("span", phase.name), bar(phase.done, phase.total, phase.name),
        element("span", phase.done + of + " runs"));
      return line;
    }));
    const notes = [];
    if (view.state === "stopped") notes.push("nobody is at work on it; the same command goes on with it");
    if (view.seconds_left !== null) notes.push("about " + duration(view.seconds_left) + " left in this phase");
    if (view.diverged) notes.push(view.diverged + " diverged");
    if (view.failed) notes.push(view.failed + " failed attempts");
    $("#note").textContent = notes.join(", ");
  }

  function pick(view) {
    const select = $("#pick select");
    $("#pick").hidden = view.cells.length < 2;
    const latest = cell === null ? "the latest: " + view.cells[view.cell] : "the latest";
    const labels = [latest, ...view.cells];
    if (select.dataset.labels !== labels.join("\n")) {
      select.replaceChildren(...labels.map((label, i) => {
        const option = element("option", label);
        option.value = i === 0 ? "" : String(i - 1);
        return option;
      }));
      select.dataset.labels = labels.join("\n");
      select.value = cell === null ? "" : String(cell);
    }
  }

  function style(method, share) {
    let i = methods.indexOf(method);
    if (i < 0) i = methods.push(method) - 1;
    const own = getComputedStyle(document.documentElement);
    return { color: own.getPropertyValue(COLOURS[i % COLOURS.length]).trim(),
      dash: DASHES[(2 * Math.floor(i / COLOURS.length) + (share === 1 ? 0 : 1)) % DASHES.length] };
  }

  function plot(place, traces, x, y) {
    const own = getComputedStyle(document.documentElement);
    const read = (token) => own.getPropertyValue(token).trim();
    const axis = (more) => ({ gridcolor: read("--grid"), linecolor: read("--line"), zeroline: false, ...more });
    Plotly.react(place, traces, {
      paper_bgcolor: read("--bg"), plot_bgcolor: read("--bg"), font: { color: read("--fg"), size: 13 },
      margin: { l: 60, r: 10, t: 10, b: 45 }, xaxis: axis(x), yaxis: axis(y), uirevision: y.title.text,
      legend: { orientation: "h", y: -0.22 }, hovermode: "closest",
    }, { displayModeBar: false, responsive: true });
  }

  const known = (values) => values.some((value) => value !== null);

  function curves(view) {
    $("#curves").hidden = !view.arms.length;
    if (!view.arms.length) return;
    const there = VIEWS.filter(([key, part]) => view.arms.some((arm) => known(arm[part][key])));
    if (!there.some(([key]) => key === shown)) shown = there.length ? there[0][0] : "metric";
    const place = $("#curves .views"), wanted = there.map(([key]) => key).join() + shown + view.metric;
    if (place.dataset.made !== wanted) {
      const focused = document.activeElement && document.activeElement.dataset.key;
      place.replaceChildren(...there.map(([key]) => {
        const button = element("button", title(key, view));
        button.type = "button";
        button.dataset.key = key;
        button.setAttribute("aria-pressed", String(key === shown));
        button.addEventListener("click", () => { shown = key; show(last); });
        return button;
      }));
      place.dataset.made = wanted;
      if (focused) for (const button of place.children) if (button.dataset.key === focused) button.focus();
    }
    const part = (VIEWS.find(([key]) => key === shown) || VIEWS[0])[1];
    const traces = view.arms.map((arm) => ({
      x: arm[part].step, y: arm[part][shown], name: name(arm), type: "scatter", line: style(arm.method, arm.share),
      mode: arm[part].step.length > 1 ? "lines" : "markers", connectgaps: true,
    })).filter((trace) => known(trace.y));
    plot($("#curves .plot"), traces, { title: { text: "steps" } },
      { title: { text: title(shown, view) }, type: shown.endsWith("loss") ? "log" : "linear" });
    const predicted = view.arms.some((arm) => known(arm.predictions.accepted));
    const end = (values) => values.reduceRight((found, value) => (found === null ? value : found), null);
    table($("#arms"),
      ["method", "lr", "runs", "diverged", "validation " + view.metric, "loss",
        ...(predicted ? ["cosine", "error", "accepted", "runs with alarms"] : [])],
      view.arms.map((arm) => [
        arm.method + (arm.share === 1 ? "" : " at " + arm.share + " T"), number(arm.lr), String(arm.done),
        arm.diverged ? String(arm.diverged) : "", number(arm.metric), number(arm.loss),
        ...(predicted ? [number(end(arm.predictions.cosine), 2), number(end(arm.predictions.error), 2),
          number(end(arm.predictions.accepted), 2), arm.anomalous ? String(arm.anomalous) : ""] : []),
      ]));
  }

  function tuning(view) {
    $("#tuning").hidden = !view.tuning.length;
    if (!view.tuning.length) return;
    const traces = view.tuning.map((row) => ({
      x: row.points.map((p) => p[0]), y: row.points.map((p) => p[1]), name: row.method,
      type: "scatter", mode: "lines+markers", line: style(row.method, 1),
    }));
    plot($("#tuning .plot"), traces, { type: "log", title: { text: "learning rate" } },
      { type: "log", title: { text: "validation loss" } });
    table($("#tuning table"), ["method", "rates tried", "best lr", "its loss"], view.tuning.map((row) => [
      row.method, String(row.points.length), number(row.lr),
      number(Math.min(...row.points.map((p) => p[1]))),
    ]));
  }

  function running(view) {
    $("#running").hidden = !view.running.length;
    table($("#running table"), ["method", "phase", "lr", "seed", "progress", "step", "validation loss"],
      view.running.map((run) => [
        run.method + (run.share === 1 ? "" : " at " + run.share + " T"), run.phase, number(run.lr),
        String(run.seed), bar(run.step, run.steps, "steps"), run.step + " of " + run.steps,
        number(run.loss.length ? run.loss[run.loss.length - 1] : null),
      ]));
  }

  function events(view) {
    $("#events").hidden = !view.events.length;
    table($("#events table"), ["time", "kind", "what"], view.events.map((event) =>
      [new Date(event.at).toLocaleTimeString(), event.kind, event.text]));
  }

  function show(view) {
    $("#state").textContent = view.state;
    $("#name").textContent = view.name;
    $("#folder").textContent = view.kind + " in " + view.folder;
    document.title = view.name + ": " + view.state;
    $("#verdict").hidden = !view.verdicts.length;
    $("#verdict ul").replaceChildren(...view.verdicts.map((sentence) => element("li", sentence)));
    for (const part of [progress, pick, curves, tuning, running, events]) part(view);
  }

  async function refresh() {
    let wait = 2;
    try {
      const answer = await fetch("/view.json" + (cell === null ? "" : "?cell=" + cell));
      if (!answer.ok) throw new Error("status " + answer.status);
      const text = await answer.text(), view = JSON.parse(text);
      wait = view.every;
      if (view.waiting) {
        $("#state").textContent = "waiting";
        $("#note").textContent = view.waiting;
        drawn = "";
      } else if (text !== drawn) {
        last = view;
        drawn = text;
        show(view);
      }
    } catch (error) {
      $("#state").textContent = "not connected";
      $("#note").textContent = "start `paramcast watch --web` again";
      drawn = "";
    }
    setTimeout(refresh, 1000 * wait);
  }

  $("#pick select").addEventListener("change", async (event) => {
    cell = event.target.value === "" ? null : Number(event.target.value);
    const answer = await fetch("/view.json" + (cell === null ? "" : "?cell=" + cell));
    if (answer.ok) {
      const view = await answer.json();
      if (!view.waiting) { last = view; show(view); }
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (last) show(last); });
  refresh();
})();
