"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const charts = new Map(page.charts.map((chart) => [chart.id, chart]));
  const PAGE_OF_ROWS = 100;
  let cell = 0;

  // --- charts ---------------------------------------------------------------------------------

  const chartOf = (section) =>
    section.dataset.cell
      ? page.cells[cell].charts.find((chart) => chart.id === section.dataset.chart)
      : charts.get(section.dataset.chart);

  function colour(token, style) {
    const [name, alpha] = token.slice(1).split("/");
    const value = style.getPropertyValue("--" + name).trim();
    if (!alpha) return value;
    const [r, g, b] = [1, 3, 5].map((i) => parseInt(value.slice(i, i + 2), 16));
    return `rgba(${r},${g},${b},${parseInt(alpha, 16) / 255})`;
  }

  function coloured(value, style) {
    if (typeof value === "string") {
      return /^\$[a-z0-9]+(\/[0-9a-f]{2})?$/.test(value) ? colour(value, style) : value;
    }
    if (Array.isArray(value)) return value.map((part) => coloured(part, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v, style)]));
  }

  function layoutOf(own, style, width) {
    const fg = style.getPropertyValue("--fg").trim();
    const grid = style.getPropertyValue("--grid").trim();
    const line = style.getPropertyValue("--faint").trim();
    const axis = { gridcolor: grid, zerolinecolor: line, linecolor: line, zerolinewidth: 2, automargin: true };
    const layout = coloured(own, style);
    return {
      height: 400,
      ...layout,
      xaxis: { ...axis, zeroline: false, ...layout.xaxis },
      yaxis: { ...axis, zeroline: false, ...layout.yaxis },
      font: { color: fg, family: getComputedStyle(document.body).fontFamily, size: width < 500 ? 11 : 13 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 50, r: 12, t: 12, b: 44 },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal" },
      hovermode: "closest",
      dragmode: false,
      autosize: true,
    };
  }

  const around = (forth, back) => [...forth, ...[...back].reverse()];

  function withBand({ band, ...line }) {
    if (!band) return [line];
    const shade = {
      type: "scatter", mode: "lines", x: around(line.x, line.x), y: around(band[1], band[0]),
      fill: "toself", fillcolor: line.line.color + "/26", line: { width: 0, color: line.line.color + "/00" },
      hoverinfo: "skip", showlegend: false, legendgroup: line.legendgroup,
    };
    return [shade, line];
  }

  function dataOf(chart, view) {
    const own = view.data || chart.views[view.like].data.map((trace, i) => ({ ...trace, x: view.x[i] }));
    return own.flatMap(withBand);
  }

  function draw(section) {
    const chart = chartOf(section), plot = section.querySelector(".plot");
    section.hidden = !chart;
    if (!chart) return;
    const view = chart.views[Number(section.dataset.view || 0)] || chart.views[0];
    const style = getComputedStyle(document.documentElement);
    Plotly.react(plot, coloured(dataOf(chart, view), style), layoutOf(view.layout, style, plot.clientWidth), {
      displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false,
    });
    section.dataset.drawn = "true";
  }

  const sections = [...document.querySelectorAll(".chart")];
  const redraw = () => sections.filter((s) => s.dataset.drawn).forEach(draw);
  const drawAll = () => sections.filter((s) => !s.dataset.drawn).forEach(draw);

  function choose(section, index) {
    section.dataset.view = index;
    section.querySelectorAll(".views button").forEach((button, i) =>
      button.setAttribute("aria-pressed", String(i === index)));
  }

  for (const section of sections) {
    const plot = section.querySelector(".plot");
    const height = Number(plot.dataset.height);
    if (height) plot.style.minHeight = height + "px";
    section.querySelector(".views").addEventListener("click", (event) => {
      if (!event.target.dataset.view) return;
      choose(section, Number(event.target.dataset.view));
      draw(section);
    });
    const tools = document.createElement("p");
    const save = document.createElement("button");
    tools.className = "tools";
    save.type = "button";
    save.textContent = page.text.save;
    save.setAttribute("aria-label", page.text.save + ": " + section.querySelector("h2,h3,h4,h5").textContent);
    save.addEventListener("click", () => {
      draw(section);
      Plotly.downloadImage(plot, { format: "svg", filename: section.dataset.chart, width: 900, height: plot.clientHeight });
    });
    tools.append(save);
    plot.after(tools);
  }

  // --- one comparison of a study --------------------------------------------------------------

  function element(name, text) {
    const made = document.createElement(name);
    made.textContent = text;
    return made;
  }

  function fill(section) {
    const chart = chartOf(section);
    if (!chart) return;
    const views = section.querySelector(".views");
    section.querySelector(".read").textContent = chart.read;
    section.querySelector(".plot").setAttribute("aria-label", chart.title + ". " + chart.read);
    views.hidden = chart.views.length < 2;
    views.replaceChildren(...chart.views.map((view, i) => {
      const button = element("button", view.label);
      button.type = "button";
      button.dataset.view = i;
      return button;
    }));
    const index = Math.min(Number(section.dataset.view || 0), chart.views.length - 1);
    choose(section, index);
    const head = document.createElement("tr"), body = section.querySelector("tbody");
    head.append(...chart.table.head.map((text) => {
      const th = element("th", text);
      th.scope = "col";
      return th;
    }));
    section.querySelector("thead").replaceChildren(head);
    body.replaceChildren(...chart.table.rows.map((row, k) => {
      const tr = document.createElement("tr");
      tr.append(...row.map((text, i) => element(i ? "td" : "th", text)));
      const first = tr.firstChild, behind = chart.table.behind[k];
      first.scope = "row";
      if (behind) {
        const link = element("a", first.textContent);
        link.href = "#runs";
        link.dataset.filter = JSON.stringify(behind);
        first.replaceChildren(link);
      }
      return tr;
    }));
  }

  const pick = document.getElementById("pick");
  if (pick) {
    pick.addEventListener("change", () => {
      cell = Number(pick.value);
      sections.filter((s) => s.dataset.cell).forEach((section) => {
        fill(section);
        draw(section);
      });
    });
  }

  // --- the table of runs ----------------------------------------------------------------------

  const body = document.getElementById("run-rows"), more = document.getElementById("more");
  const inputs = new Map([...document.querySelectorAll("[data-by]")].map((i) => [i.dataset.by, i]));
  const status = document.getElementById("shown");
  const has = {
    cell: (run, value) => run.cells.includes(Number(value)),
    method: (run, value) => (several.get(value) || [value]).some((name) => run.methods.includes(name)),
    phase: (run, value) => run.phase === value,
    share: (run, value) => run.share === value,
    status: (run, value) => run.status === value,
    text: (run, value) => run.shown.join(" ").toLowerCase().includes(value.toLowerCase()),
  };
  const several = new Map(); // methods that are shown together, by their joint name
  const SHOWN_AS = { phase: -9, status: -5 }; // columns, from the end
  let found = [], count = 0;

  for (const [name, input] of inputs) {
    if (input.tagName === "SELECT") {
      const words = new Map();
      for (const run of page.runs) {
        const values = name === "cell" ? run.cells : name === "method" ? run.methods : [run[name]];
        values.forEach((v) => words.set(String(v), name in SHOWN_AS ? run.shown.at(SHOWN_AS[name])
          : name === "cell" ? (page.cells[v] ? page.cells[v].label : String(v + 1))
          : name === "share" ? `${100 * v} %` : String(v)));
      }
      const sorted = [...words].sort(([a], [b]) => a.localeCompare(b, undefined, { numeric: true }));
      input.append(...sorted.map(([value, word]) => new Option(word, value)));
    }
    input.addEventListener("input", list);
  }

  function add() {
    const rows = found.slice(count, count + PAGE_OF_ROWS).map((run) => {
      const tr = document.createElement("tr");
      tr.append(...run.shown.map((text) => element("td", text)));
      return tr;
    });
    body.append(...rows);
    count += rows.length;
    more.hidden = count >= found.length;
    status.textContent = found.length
      ? page.text.shown.replace("{n}", count).replace("{all}", found.length) : page.text.none;
  }

  function list() {
    const wanted = [...inputs].filter(([, input]) => input.value);
    found = page.runs.filter((run) => wanted.every(([name, input]) => has[name](run, input.value)));
    count = 0;
    body.replaceChildren();
    add();
  }

  function together(names) {
    const word = names.join(" + "), select = inputs.get("method");
    if (names.length > 1 && !several.has(word)) {
      several.set(word, names);
      select.append(new Option(word, word));
    }
    return word;
  }

  function filter(values) {
    inputs.forEach((input, name) => {
      const value = values[name] ?? "";
      input.value = Array.isArray(value) ? together(value) : String(value);
    });
    list();
  }

  document.getElementById("reset").addEventListener("click", () => filter({}));
  more.addEventListener("click", add);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-filter]");
    if (!link) return;
    filter({ cell, phase: "final", share: "1", ...JSON.parse(link.dataset.filter) });
    document.getElementById("runs").focus({ preventScroll: true });
  });
  list();

  // --- while runs finish (paramcast watch --web) -----------------------------------------------

  if (page.live) {
    const kept = Number(sessionStorage.getItem("comparison"));
    if (pick) {
      pick.addEventListener("change", () => sessionStorage.setItem("comparison", pick.value));
      if (kept && kept < pick.options.length) {
        pick.value = kept;
        pick.dispatchEvent(new Event("change"));
      }
    }
    setInterval(async () => {
      const answer = await fetch("/", { method: "HEAD", cache: "no-store" }).catch(() => null);
      if (answer?.ok && answer.headers.get("ETag") !== page.live.tag) location.reload();
    }, 1000 * page.live.every);
  }

  // --- when to draw ---------------------------------------------------------------------------

  if (page.eager) {
    drawAll();
  } else {
    const seen = new IntersectionObserver((entries) => {
      entries.filter((e) => e.isIntersecting).forEach((e) => {
        seen.unobserve(e.target);
        if (!e.target.dataset.drawn) draw(e.target);
      });
    }, { rootMargin: "400px" });
    sections.forEach((section) => seen.observe(section));
    // and the others one by one when nothing else is to do, so that a capture of the page has all
    const idle = window.requestIdleCallback || ((then) => setTimeout(then, 200));
    const rest = () => {
      const next = sections.find((section) => !section.dataset.drawn);
      if (!next) return;
      draw(next);
      idle(rest);
    };
    addEventListener("load", () => idle(rest));
  }
  for (const media of ["(prefers-color-scheme: dark)", "print"]) {
    matchMedia(media).addEventListener("change", redraw);
  }
  // the style sheet is still that of the screen when this event comes
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.print = "true";
    drawAll();
    redraw();
  });
  addEventListener("afterprint", () => {
    delete document.documentElement.dataset.print;
    redraw();
  });
})();
