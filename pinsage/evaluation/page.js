
/** A picture that doesn't load leaves the drawn one under it. */
function dropBroken(picture) {
  if (picture.complete && picture.src && !picture.naturalWidth) picture.remove();
  else picture.addEventListener("error", () => picture.remove());
}

const panel = document.querySelector("[data-shown]");

function made(name, text, className) {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function pictured(item) {
  const picture = made("img");
  picture.alt = "";
  picture.referrerPolicy = "no-referrer";
  picture.addEventListener("error", () => picture.remove());
  picture.src = item.image;
  return picture;
}

function shown(item, near) {
  const list = made("ol");
  list.append(...near.map((other) => {
    const line = made("li");
    line.append(made("span", other.title));
    return line;
  }));
  panel.replaceChildren(
    ...(/^(data:image\/|https?:\/\/)/.test(item.image ?? "") ? [pictured(item)] : []),
    made("h3", item.title),
    made("p", `in ${item.degree.toLocaleString("en")} context${item.degree === 1 ? "" : "s"}; nearest on this map:`, "soft"),
    list,
  );
}

document.querySelectorAll(".thumb img").forEach(dropBroken);
const points = document.querySelector("[data-points]");
if (points) drawMap(document.querySelector("[data-map]"), JSON.parse(points.textContent), shown);
