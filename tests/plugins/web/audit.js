// What is hard to read or to touch on the page, as an object of lists: evaluated in the browser by the tests.
() => {
  const numbers = (text) => {
    const found = text.match(/[\d.]+/g).map(Number);
    return found.length < 4 ? [...found, 1] : found;
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = numbers(getComputedStyle(each).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [0, 0, 0];
  };
  const faint = []; // texts below 4.5:1, or 3:1 if they are large
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.nodeValue.trim();
    const element = walker.currentNode.parentElement;
    if (!text || !element.getBoundingClientRect().width) continue;
    if (element.closest(":disabled, noscript, [hidden], #cover, svg")) continue;
    const style = getComputedStyle(element);
    const [low, high] = [luminance(numbers(style.color)), luminance(ground(element))].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) faint.push(`${ratio.toFixed(2)} ${text} ${element.className}`);
  }
  // What is less than 44 pixels high, unless it stands in a sentence or the label around it is higher.
  const small = [...document.querySelectorAll("button, a[href], select, input")].filter((each) => {
    const box = (each.closest("label.check") ?? each).getBoundingClientRect();
    return box.height && box.height < 44 && !each.matches("#skip, .verdict") && !each.closest("p:not(.links)");
  }).map((each) => each.outerHTML.slice(0, 100));
  return { faint, small, width: document.documentElement.scrollWidth };
}
