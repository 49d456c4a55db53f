// A table that Streamlit's own cannot be: intervals drawn in the cell, a reason in every empty one, real links.
// Every text comes from records, so it is set as textContent and never parsed as HTML.

const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
};

const percent = (fraction) => `${100 * Math.min(1, Math.max(0, fraction))}%`;

function interval({ low, high, at }) {
  const track = make("div", "interval");
  const range = make("span", "range");
  range.style.left = percent(low);
  range.style.width = percent(high - low);
  const point = make("span", "point");
  point.style.left = percent(at);
  track.append(range, point);
  return track;
}

function link(cell, open) {
  const anchor = make("a", "", cell.text);
  anchor.href = cell.href;
  if (cell.key === undefined) {
    anchor.target = "_blank";
    anchor.rel = "noopener noreferrer";
    anchor.onclick = (event) => event.stopPropagation();
  } else {
    // A plain click stays in this session; with a modifier the browser opens a new tab as for any link.
    anchor.onclick = (event) => {
      event.stopPropagation();
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      open(cell.key);
    };
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
    line.append(cell.href ? link(cell, open) : make("span", "value", cell.text));
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
  if (row.key !== undefined) {
    tr.classList.add("opens");
    tr.onclick = () => {
      if (!window.getSelection().toString()) open(row.key);
    };
  }
  return tr;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const sort = (key) => setTriggerValue("sort", key);
  const open = (key) => setTriggerValue("open", key);
  const table = make("table");
  table.setAttribute("aria-label", data.label);
  const head = make("tr");
  head.append(...data.columns.map((column) => header(column, sort)));
  const thead = make("thead");
  thead.append(head);
  const tbody = make("tbody");
  tbody.append(...data.rows.map((row) => body(row, data.columns, open)));
  table.append(thead, tbody);
  parentElement.querySelector(".frame").replaceChildren(table);
}
