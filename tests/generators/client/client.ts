// A client of the API by openapi-fetch: that this compiles shows that the types say what is needed.
import createClient from "openapi-fetch";
import type { components, operations, paths } from "./api";

// Lists are answered as CSV and as one object too; this client asks for neither.
type Media = "application/json" | "application/problem+json";
const client = createClient<paths, Media>({ baseUrl: "http://127.0.0.1:8080/v1" });

export async function write(): Promise<string> {
  const body: components["schemas"]["AnnouncementContent"] = {
    title: "Roads",
    body: "All of them are open.",
    published_on: "2026-11-21",
    status: "draft",
    tags: ["roads"],
  };
  const put = await client.PUT("/announcements/{key}", {
    params: {
      path: { key: "6f0d4b8e-3a55-4c2c-9d3e-0d8f3c2b7a11" },
      header: { "If-None-Match": "*" },
    },
    body,
  });
  if (put.error) {
    const code: string = put.error.code;
    return code;
  }
  const id: string = put.data.command_id;
  const settled = await client.GET("/announcements/{key}/commands/{id}", {
    params: { path: { key: String(put.data.key), id }, header: { Prefer: "wait=20" } },
  });
  const status: string | undefined = settled.data?.status;
  return status ?? "unknown";
}

export async function read(): Promise<string[]> {
  const list = await client.GET("/cities", {
    params: { query: { population: "gte.1000000", order: "population.desc", limit: 3 } },
  });
  const item = await client.GET("/cities/{key}", { params: { path: { key: 5 } } });
  const names = (list.data ?? []).map((row) => String(row.name));
  const name: string | undefined = item.data?.name;
  return name === undefined ? names : [...names, name];
}

export async function writeMany(items: components["schemas"]["NewCity"][]): Promise<number[]> {
  const posted = await client.POST("/cities", { body: items });
  if (!posted.data || !("results" in posted.data)) {
    return [];
  }
  return posted.data.results.map((result) =>
    result.outcome === "accepted" ? result.links.item.length : result.problem.status,
  );
}

// A stored value that a later declaration no longer lists is still a text.
export const status: components["schemas"]["Announcement"]["status"] = "abandoned";
export const tags: components["schemas"]["Announcement"]["tags"] = ["roads"];
export type Head = operations["cities_list_head"];

// What the description forbids does not compile, so the types above are not `any`.
// @ts-expect-error there is no such path
client.GET("/planets");
// @ts-expect-error a title is missing
export const incomplete: components["schemas"]["NewAnnouncement"] = { body: "", published_on: "" };
// @ts-expect-error no write sets such a status
export const unknown: components["schemas"]["NewAnnouncement"]["status"] = "abandoned";
// @ts-expect-error only `*` can be asked for
client.PUT("/cities/{key}", { params: { path: { key: 5 }, header: { "If-None-Match": "x" } } });
