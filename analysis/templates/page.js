"use strict";
// Tables can be sorted and filtered; without this script they show all lines in their own order.
(() => {
  const label = cell => cell.textContent.trim();
  const lines = body => [...body.rows].filter(row => row.querySelector("th[scope=row]"));
  const group = body => body.querySelector(".group")?.textContent.trim() || "";

  // The number that a cell begins with: 0.9312 of "0.9312 ± 0.0123", -1200 of "−1,200 px"; NaN of other text.
  const number = text => {
    const plain = text.replace(/\u2212/g, "-").replace(/(\d),(?=\d{3})/g, "$1");
    const found = plain.match(/^[<[]?\s*([-+]?\d*\.?\d+)(?![\w-])/);
    return found ? Number(found[1]) - (plain[0] === "<" ? 1e-9 : 0) : NaN;
  };

  // Numbers before texts before dashes, whatever the direction is.
  const sorted = (items, key, direction) => {
    const rank = text => (text === "" || text === "–" ? 2 : isNaN(number(text)) ? 1 : 0);
    const compare = (a, b) => {
      const kinds = rank(a) - rank(b);
      if (kinds) return kinds;
      return direction * (rank(a) ? a.localeCompare(b, "en", {numeric: true}) : number(a) - number(b));
    };
    return direction ? [...items].sort((a, b) => compare(key(a), key(b))) : items;
  };

  const prepare = table => {
    const bodies = [...table.tBodies], rows = bodies.flatMap(lines);
    if (rows.length < 2) return;
    const heads = [...table.tHead.rows[0].cells];
    let column = 0, direction = 0;

    // Lines of a group stay together: groups are ordered by their first line that is shown.
    const sort = () => {
      const first = body => lines(body).find(row => !row.hidden) || lines(body)[0];
      const ofGroup = body => column ? label(first(body).cells[column]) : group(body);
      if (bodies.length > 1) table.append(...sorted(bodies, ofGroup, direction));
      else bodies[0].append(...sorted(rows, row => label(row.cells[column]), direction));
      heads.forEach((head, index) => {
        const name = {1: "ascending", "-1": "descending"}[direction];
        if (index === column && name) head.setAttribute("aria-sort", name);
        else head.removeAttribute("aria-sort");
      });
    };
    heads.forEach((head, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Sort";
      button.append(...head.childNodes);
      if (!label(button)) button.setAttribute("aria-label", "Sort by name");
      head.append(button);
      button.addEventListener("click", () => {
        direction = index !== column || !direction ? 1 : direction === 1 ? -1 : 0;
        column = index;
        sort();
      });
    });

    if (rows.length < 8) return;
    const filter = document.createElement("label"), input = document.createElement("input");
    const count = document.createElement("output");
    filter.className = "filter";
    input.type = "search";
    filter.append("Filter lines: ", input, count);
    table.parentElement.before(filter);
    const text = row => `${group(row.parentElement)} ${label(row)}`.toLowerCase();
    const texts = new Map(rows.map(row => [row, text(row)]));
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) row.hidden = !words.every(word => texts.get(row).includes(word));
      for (const body of bodies) body.hidden = lines(body).every(row => row.hidden);
      const shown = rows.filter(row => !row.hidden).length;
      count.textContent = words.length ? ` ${shown} of ${rows.length} lines` : "";
      filter.classList.toggle("active", words.length > 0);
      sort();
    });
  };
  document.querySelectorAll("table").forEach(prepare);

  // Cases are chosen by arm, by pathology, and by what they are shown as.
  document.querySelectorAll(".gallery").forEach(gallery => {
    const cards = [...gallery.querySelectorAll(".card")], count = document.createElement("output");
    const choices = ["arm", "pathology", "shown"].map(name => {
      const choice = document.createElement("label"), select = document.createElement("select");
      choice.className = "choice";
      const values = [...new Set(cards.map(card => card.dataset[name]))].sort();
      select.append(...["", ...values].map(value => new Option(value || "all", value)));
      choice.append(`${name[0].toUpperCase()}${name.slice(1)}${name === "shown" ? " as" : ""}: `, select);
      select.addEventListener("change", show);
      return {name, choice, select};
    });
    gallery.querySelector(".cards").before(...choices.map(each => each.choice), count);
    count.className = "choice";

    function show() {
      for (const card of cards) {
        card.hidden = choices.some(each => each.select.value && each.select.value !== card.dataset[each.name]);
      }
      count.textContent = `${cards.filter(card => !card.hidden).length} of ${cards.length} images`;
    }
  });

  // What has to be scrolled is reached by the keyboard; what is shown whole is no stop on the way.
  const reach = () => document.querySelectorAll(".scroll").forEach(box => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
  addEventListener("resize", reach);
  addEventListener("load", reach);
  document.addEventListener("toggle", reach, true);

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach(details => { details.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach(details => { details.open = false; }));
})();
