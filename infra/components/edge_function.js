// What a CloudFront Function does with every request before any cache sees it (docs/adr/0005). Besides
// `async`, which a store needs, plain ES 5 on purpose: the runtime `cloudfront-js-2.0` knows only
// parts of later editions.
import cf from "cloudfront";

// Path below the stage -> names of its query parameters, of the paths about the API itself. Methods
// other than GET that aren't named in CHECKED keep their query to themselves.
var ROUTES = __ROUTES__;
// The paths of a resource. Which of them a resource has, and their parameters, are in the store,
// under the resource's name: code may have 10 KB.
var SHAPES = __SHAPES__;
var SHARED = __SHARED__;
var CHECKED = __CHECKED__;
// The first segments of the paths about the API, and of all paths if they are few enough to compare
// with a misspelt one.
var OWN = __OWN__;
var NAMES = __NAMES__;
var STAGE = __STAGE__;
var PROBLEMS = __PROBLEMS__;
var HINT_JSON = __HINT_JSON__;
var HINT_RELATED = __HINT_RELATED__;
var HINT_REPEATED = __HINT_REPEATED__;
var MAX_BODY_BYTES = __MAX_BODY_BYTES__;
var ORIGIN = __ORIGIN__;
var LACKS = "-";
var NONE = "!";

async function handler(event) {
  var request = event.request;
  var refusal = tooLarge(request) || (await refusedRead(request));
  if (refusal) {
    return refusal;
  }
  var headers = request.headers;
  // No client may have the stage cache asked anew.
  delete headers["cache-control"];
  delete headers.pragma;
  // What CloudFront makes of ranges in other units than bytes is documented nowhere, so such an
  // answer is shared with nobody: this header is part of the cache key.
  delete headers["x-forebay-range"];
  if (headers.range) {
    headers["x-forebay-range"] = { value: event.context.requestId };
  }
  return request;
}

function tooLarge(request) {
  var length = request.headers["content-length"];
  if (length && Number(length.value) > MAX_BODY_BYTES) {
    return refused(
      request,
      "payload_too_large",
      "The request is larger than " + MAX_BODY_BYTES + " bytes.",
    );
  }
  return null;
}

async function refusedRead(request) {
  var parts = segments(request.uri);
  var reads = request.method === "GET" || request.method === "HEAD";
  if (!reads || parts.shift() !== STAGE) {
    return null;
  }
  for (var path in ROUTES) {
    if (fits(path, parts)) {
      return checks(request, path) ? refusedQuery(request, ROUTES[path]) : null;
    }
  }
  if (!parts.length || OWN.indexOf(parts[0]) >= 0) {
    return null;
  }
  var rows = await known(parts[0]);
  if (rows === null) {
    return unheardOf(request, parts[0]);
  }
  for (var at = 0; at < SHAPES.length; at++) {
    if (rows[at] !== LACKS && fits(SHAPES[at], parts)) {
      return checks(request, SHAPES[at]) ? refusedQuery(request, rows[at]) : null;
    }
  }
  return null;
}

// The query parameters of a resource's paths, in the order of SHAPES; null if there is no resource
// of the name. A value has 1 KB, so a long one continues under further keys.
async function known(name) {
  var store = cf.kvs();
  if (!(await store.exists(name))) {
    return null;
  }
  var rows = (await store.get(name)).split("\n");
  var more = Number(rows.shift());
  var text = rows.join("\n");
  for (var part = 1; part <= more; part++) {
    text += await store.get(name + " " + part);
  }
  return text.split("\n");
}

function checks(request, path) {
  return request.method === "GET" || CHECKED.indexOf(request.method + " " + path) >= 0;
}

function fits(path, parts) {
  var route = segments(path);
  return (
    route.length === parts.length &&
    route.every(function (part, at) {
      return part.charAt(0) === "{" || part === parts[at];
    })
  );
}

function unheardOf(request, name) {
  var similar = nearest(name);
  return refused(
    request,
    "PGRST205",
    "The resource `" + name.slice(0, 48) + "` does not exist; the page docs lists all.",
    null,
    null,
    similar && "Perhaps you mean `" + similar + "`.",
  );
}

function nearest(name) {
  var found = null;
  var fewest = Math.floor((name.length + 1) / 3) + 1;
  NAMES.forEach(function (candidate) {
    var apart = Math.abs(name.length - candidate.length);
    var letters = name.length > 48 || apart >= fewest ? fewest : different(name, candidate);
    if (letters < fewest) {
      found = candidate;
      fewest = letters;
    }
  });
  return found;
}

function different(one, other) {
  var row = [];
  for (var start = 0; start <= other.length; start++) {
    row.push(start);
  }
  for (var place = 1; place <= one.length; place++) {
    var above = row[0];
    row[0] = place;
    for (var column = 1; column <= other.length; column++) {
      var changed = above + (one[place - 1] === other[column - 1] ? 0 : 1);
      above = row[column];
      row[column] = Math.min(changed, above + 1, row[column - 1] + 1);
    }
  }
  return row[other.length];
}

// `own`: the names of the route's parameters in addition to the shared ones, or NONE.
function refusedQuery(request, own) {
  var allowed = (own === NONE ? [] : SHARED.concat(words(own))).sort();
  var pairs = parsed(request.rawQueryString() || "");
  var names = pairs.map(function (pair) {
    return pair[0];
  });
  var unknown = names.filter(function (name) {
    return allowed.indexOf(name) < 0;
  });
  if (unknown.length) {
    return refused(
      request,
      "unknown_parameter",
      "This resource has no query parameter " +
        quoted(unknown) +
        "; " +
        (allowed.length ? "it has " + quoted(allowed) : "it has no parameters") +
        ".",
      unknown,
      allowed,
      hint(unknown.join()),
    );
  }
  var repeated = names.filter(function (name, at) {
    return names.indexOf(name) !== at;
  });
  if (repeated.length) {
    return refused(
      request,
      "repeated_parameter",
      "The query parameter " +
        quoted(repeated) +
        " is given more than once; send it once.",
      repeated,
      allowed,
      HINT_REPEATED,
    );
  }
  // Rewritten, so that API Gateway reads what was checked here: it would split at `;`.
  request.querystring = pairs
    .map(function (pair) {
      return encodeURIComponent(pair[0]) + "=" + encodeURIComponent(pair[1]);
    })
    .join("&");
  return null;
}

function hint(unknown) {
  if (unknown.indexOf("->") >= 0) {
    return HINT_JSON;
  }
  return unknown.indexOf(".") < 0 ? null : HINT_RELATED;
}

function parsed(query) {
  return query
    .split("&")
    .filter(function (part) {
      return part !== "";
    })
    .map(function (part) {
      var at = part.indexOf("=");
      var name = at < 0 ? part : part.slice(0, at);
      return [decoded(name), at < 0 ? "" : decoded(part.slice(at + 1))];
    });
}

function segments(path) {
  return path
    .split("/")
    .filter(function (part) {
      return part !== "";
    })
    .map(function (part) {
      return part.charAt(0) === "{" ? part : decoded(part, true);
    });
}

function decoded(text, isPath) {
  try {
    return decodeURIComponent(isPath ? text : text.replace(/\+/g, " "));
  } catch (malformed) {
    return text;
  }
}

function words(text) {
  return text === "" ? [] : text.split(" ");
}

function unique(names) {
  return names.filter(function (name, at) {
    return names.indexOf(name) === at;
  });
}

function quoted(names) {
  return unique(names)
    .map(function (name) {
      return "`" + name + "`";
    })
    .join(", ");
}

function refused(request, code, detail, names, allowed, hint) {
  var known = PROBLEMS[code];
  var document = {
    type: known.type,
    title: known.title,
    status: known.status,
    detail: detail,
    instance: request.uri,
    code: code,
    // PostgREST's members; its clients show nothing else.
    message: detail,
    details: null,
    hint: hint || null,
  };
  if (names) {
    document.parameters = unique(names);
    document.allowed = allowed;
  }
  var response = {
    statusCode: known.status,
    headers: {
      "content-type": { value: "application/problem+json" },
      "cache-control": { value: "no-store" },
      "access-control-allow-origin": { value: ORIGIN },
    },
  };
  if (request.method !== "HEAD") {
    response.body = JSON.stringify(document);
  }
  return response;
}
