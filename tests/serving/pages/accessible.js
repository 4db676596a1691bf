// What anybody needs to use a page: names, labels, landmarks, order, contrast. Returns what is missing.
() => {
  const found = [];
  const say = (what, element) => found.push(`${what}: ${element.outerHTML.slice(0, 120)}`);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const seen = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });

  for (const [selector, count] of [["main", 1], ["h1", 1], ["header", 1], ["nav[aria-label='Main']", 1]]) {
    if (all(selector).length !== count) found.push(`expected ${count} ${selector}, found ${all(selector).length}`);
  }
  if (!document.documentElement.lang) found.push("no language");
  if (!document.title) found.push("no title");
  const ids = all("[id]").map((element) => element.id);
  for (const id of ids.filter((id, place) => ids.indexOf(id) !== place)) found.push(`id ${id} twice`);
  for (const name of ["aria-labelledby", "aria-describedby"]) {
    for (const element of all(`[${name}]`)) {
      for (const id of element.getAttribute(name).split(" ")) {
        if (!document.getElementById(id)) say(`${name} leads nowhere`, element);
      }
    }
  }
  for (const field of all("input:not([type=hidden], [hidden]), select, textarea")) {
    if (field.labels.length === 0 && !field.ariaLabel) say("a field without a label", field);
  }
  const nameOf = (element) =>
    element.ariaLabel ||
    element.textContent.trim() ||
    [...element.querySelectorAll("img[alt], svg[aria-label]")].map((image) => image.alt || image.ariaLabel).join("");
  for (const element of all("a[href], button, summary")) {
    if (!nameOf(element)) say("a control without a name", element);
  }
  for (const image of all("img")) if (!image.hasAttribute("alt")) say("a picture without a text", image);
  for (const image of all("svg")) {
    if (image.getAttribute("role") !== "img" || !image.ariaLabel) say("a chart without a text", image);
  }
  for (const bar of all("progress")) if (!bar.ariaLabel) say("a bar without a name", bar);
  for (const table of all("table")) {
    if (!table.caption) say("a table without a caption", table);
    for (const cell of table.querySelectorAll("th")) if (!cell.scope) say("a heading without a scope", cell);
  }
  for (const region of all("[role=region], section")) {
    if (!region.ariaLabel && !region.hasAttribute("aria-labelledby")) say("a region without a name", region);
  }
  let level = 0;
  for (const heading of all("h1, h2, h3, h4")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) say("a level of headings is left out", heading);
    level = next;
  }
  for (const element of all("[tabindex]")) if (element.tabIndex > 0) say("an order of its own", element);

  // Contrast as WCAG 2 defines it, of texts against the colour behind them.
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgba("white");
  };
  for (const element of all("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!own || !seen(element) || element.closest(".hidden, .skip, .docs, script, option")) continue;
    const style = getComputedStyle(element);
    const colour = rgba(element.closest("svg") ? style.fill : style.color);
    const [light, dark] = [luminance(colour), luminance(behind(element))].sort((one, other) => other - one);
    const ratio = (light + 0.05) / (dark + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) say(`contrast of ${ratio.toFixed(2)}`, element);
  }
  return found;
}
