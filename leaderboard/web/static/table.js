// A table with features that Streamlit's table lacks: intervals in cells, a reason in every empty cell, real links.
// Every text comes from records, so it is set as textContent and never parsed as HTML.

const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
};

const percent = (fraction) => `${100 * Math.min(1, Math.max(0, fraction))}%`;

// The background of one element shows both range and point, since a long table has thousands of intervals.
function interval({ low, high, at }) {
  const track = make("div", "interval");
  track.style.cssText = `--low:${percent(low)};--high:${percent(high)};--at:${percent(at)}`;
  return track;
}

// Opens a page of the board in this session. The browser changes the address, and Streamlit follows it as it follows the
// back button, with one message. A page change by the server takes two runs of the script, and a second click or any
// other message between the two returned to the page before.
function go(href) {
  // A double click is two clicks.
  if (new URL(href, window.location.href).href === window.location.href) return;
  window.history.pushState({}, "", href);
  window.dispatchEvent(new PopStateEvent("popstate"));
}

function link(cell) {
  const anchor = make("a", "", cell.text);
  anchor.href = cell.href;
  if (cell.here) {
    // A plain click opens the page in this session. With a modifier key the browser opens a new tab, as for any link.
    anchor.onclick = (event) => {
      event.stopPropagation();
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      go(cell.href);
    };
  } else {
    anchor.target = "_blank";
    anchor.rel = "noopener noreferrer";
    anchor.onclick = (event) => event.stopPropagation();
  }
  return anchor;
}

function header(column, sort) {
  const th = make("th", column.kind);
  th.scope = "col";
  if (column.title) th.title = column.title;
  if (column.sort) {
    const button = make("button", "", column.label);
    button.type = "button";
    button.onclick = () => sort(column.sort);
    th.append(button);
    th.setAttribute("aria-sort", column.order || "none");
  } else {
    th.append(make("span", "", column.label));
  }
  if (column.sub) th.append(make("div", "sub", column.sub));
  return th;
}

function body(row, columns, open) {
  const tr = make("tr", row.style);
  row.cells.forEach((cell, index) => {
    const td = make("td", `${columns[index].kind || ""} ${cell.style || ""}`);
    if (cell.title) td.title = cell.title;
    const line = make("div", "line");
    line.append(cell.href ? link(cell) : make("span", "value", cell.text));
    if (cell.spread) line.append(make("span", "spread", cell.spread));
    if (cell.mark) {
      const mark = make("span", "mark", cell.mark);
      mark.title = cell.note;
      mark.setAttribute("role", "img");
      mark.setAttribute("aria-label", cell.note);
      line.append(mark);
    }
    td.append(line);
    if (cell.interval) td.append(interval(cell.interval));
    if (cell.sub) td.append(make("div", "sub", cell.sub));
    tr.append(td);
  });
  if (row.key !== undefined || row.href !== undefined) {
    tr.classList.add("opens");
    tr.onclick = () => {
      if (window.getSelection().toString()) return;
      if (row.href !== undefined) go(row.href);
      else open(row.key);
    };
  }
  return tr;
}

// A table with more rows than this is drawn as a grid with fixed column widths, so that the browser lays out and paints
// only the visible rows. All rows are in the page: the browser's search and screen readers reach them, and so does the
// tab key.
const LONG = 100;
const FIRST = 40;
const AT_ONCE = 120;

const soon = window.requestIdleCallback
  ? (work) => window.requestIdleCallback(work, { timeout: 50 })
  : (work) => window.setTimeout(work, 0);

// Roles that tables and rows lose when they are drawn as a grid.
const ROLES = { table: "table", thead: "rowgroup", tbody: "rowgroup", tr: "row", th: "columnheader", td: "cell" };

function keepRoles(node) {
  node.setAttribute("role", ROLES[node.localName]);
  if (node.localName !== "th" && node.localName !== "td") for (const child of node.children) keepRoles(child);
}

const length = (cell) => cell.text.length + (cell.spread ? cell.spread.length + 1 : 0) + (cell.mark ? cell.mark.length + 1 : 0);

// Measures the column widths on an ordinary table of the rows with the longest cell per column.
function columnWidths(frame, table, rows, draw) {
  const longest = new Set();
  for (const slot of ["text", "sub"]) {
    table.tHead.rows[0].childNodes.forEach((_, index) => {
      const size = (cell) => (slot === "text" ? length(cell) : (cell.sub || "").length);
      longest.add(rows.reduce((a, b) => (size(b.cells[index]) > size(a.cells[index]) ? b : a)));
    });
  }
  table.tBodies[0].append(...[...longest].map(draw));
  table.classList.add("measured");
  frame.replaceChildren(table);
  const widths = [...table.tHead.rows[0].cells].map((th) => Math.ceil(th.getBoundingClientRect().width));
  table.classList.remove("measured");
  table.tBodies[0].replaceChildren();
  return widths;
}

function drawLong(frame, table, rows, draw) {
  const body = table.tBodies[0];
  const widths = columnWidths(frame, table, rows, draw);
  // All widths are 0 while the table is hidden, as in a closed tab. Then any width works that all rows share.
  const columns = widths.map((width) => `minmax(${width || 96}px, ${width || 96}fr)`).join(" ");
  table.style.setProperty("--columns", columns);
  table.classList.add("long");
  table.setAttribute("aria-rowcount", rows.length + 1);
  keepRoles(table);
  const add = (from, to) => {
    const drawn = rows.slice(from, to).map(draw);
    drawn.forEach(keepRoles);
    body.append(...drawn);
  };
  add(0, FIRST);
  const addRest = (from) => {
    // Another table may have replaced this one in the meantime.
    if (from >= rows.length || frame.firstChild !== table) return;
    add(from, from + AT_ONCE);
    soon(() => addRest(from + AT_ONCE));
  };
  soon(() => addRest(FIRST));
}

// Index of the header with the keyboard focus, which the next table restores.
function focusedHeader(frame) {
  const head = frame.querySelector("thead tr");
  return head ? [...head.cells].findIndex((th) => th.contains(frame.getRootNode().activeElement)) : -1;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const frame = parentElement.querySelector(".frame");
  frame.report = setTriggerValue;
  // Streamlit calls this function after every change on the page.
  const content = JSON.stringify([data.label, data.columns, data.rows]);
  if (frame.content === content) return;
  frame.content = content;
  const sort = (key) => frame.report("sort", key);
  const open = (key) => frame.report("open", key);
  const rows = JSON.parse(data.rows);
  const table = make("table");
  table.setAttribute("aria-label", data.label);
  const head = make("tr");
  head.append(...data.columns.map((column) => header(column, sort)));
  table.createTHead().append(head);
  table.append(make("tbody"));
  const draw = (row) => body(row, data.columns, open);
  const focused = focusedHeader(frame);
  if (rows.length > LONG) {
    drawLong(frame, table, rows, draw);
  } else {
    table.tBodies[0].append(...rows.map(draw));
    frame.replaceChildren(table);
  }
  if (focused >= 0) head.cells[focused]?.querySelector("button")?.focus();
}
