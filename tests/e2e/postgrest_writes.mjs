// Writes through PostgREST's JavaScript client; prints what the client returned, as JSON.
// Arguments: the address of the API, and three keys of cities.
import { PostgrestClient } from "@supabase/postgrest-js";

const [address, ...texts] = process.argv.slice(2);
const keys = texts.map(Number);
const cities = () => new PostgrestClient(address).from("cities");

function city(key, changes = {}) {
  return {
    geonameid: key,
    name: `City ${key}`,
    country_code: "DE",
    population: 1000,
    latitude: 50.5,
    longitude: 6.25,
    timezone: "Europe/Berlin",
    ...changes,
  };
}

// The final status of a command.
async function settled(result) {
  for (;;) {
    const answer = await fetch(new URL(result.links.status, address), {
      headers: { Prefer: "wait=20" },
    });
    if (answer.status === 200) return answer.json();
  }
}

// Reads rows in a state in which the last of these results is settled.
async function rows(results) {
  const query = cities().select("geonameid,name,population").in("geonameid", keys).order("geonameid");
  query.setHeader("Read-After", results.at(-1).links.status);
  for (;;) {
    const { data, error, status } = await query;
    if (status !== 503) {
      if (error) throw error;
      return data;
    }
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

const steps = {};
const one = await cities().insert(city(keys[0]));
steps.insertOne = { ...one, rows: await rows([one.data]) };
const many = await cities().insert(keys.slice(1).map((key) => city(key))).select();
steps.insertMany = { ...many, rows: await rows(many.data) };
const again = await cities().insert(city(keys[0], { name: "again" })).select();
steps.insertAgain = { ...again, rows: await rows(again.data) };
const upsert = await cities()
  .upsert([city(keys[0], { name: "upserted" })], { onConflict: "geonameid" })
  .select();
steps.upsert = { ...upsert, rows: await rows(upsert.data) };
const single = await cities()
  .upsert(city(keys[1], { name: "single" }))
  .select()
  .single();
steps.single = { ...single, rows: await rows([single.data]) };
const update = await cities().update({ name: "updated" }).eq("geonameid", keys[0]);
steps.update = { ...update, rows: await rows([update.data]) };
const updates = await cities().update({ population: 7 }).in("geonameid", keys.slice(1)).select();
steps.updateMany = { ...updates, rows: await rows(updates.data) };
const compared = [];
for (const name of ["swapped", "too late"]) {
  const { data } = await cities()
    .update({ name })
    .eq("geonameid", keys[0])
    .eq("name", "updated");
  compared.push(await settled(data));
}
steps.compareAndSet = { error: null, statuses: compared, rows: await rows(compared) };
const decrements = [];
for (const by of [-5, -5]) {
  const { data } = await cities().update({ population: { $increment: by } }).eq("geonameid", keys[1]);
  decrements.push(await settled(data));
}
steps.decrement = { error: null, statuses: decrements, rows: await rows(decrements.slice(0, 1)) };
steps.updateInvalid = await cities().update({ population: "many" }).eq("geonameid", keys[0]);
steps.updateWithoutKey = await cities().update({ population: 1 }).eq("name", "single");
const guarded = await cities().delete().eq("geonameid", keys[0]).eq("name", "somebody else's");
steps.guardedDelete = { error: null, statuses: [await settled(guarded.data)] };
steps.invalid = await cities().insert([city(keys[0]), city(keys[1], { population: "many" })]);
steps.otherConflict = await cities().upsert(city(keys[0]), { onConflict: "name" });
steps.withoutKey = await cities().delete().eq("name", "single");
const deleted = await cities().delete().eq("geonameid", keys[0]);
steps.deleteOne = { ...deleted, rows: await rows([deleted.data]) };
const rest = await cities().delete().in("geonameid", keys.slice(1)).select();
steps.deleteMany = { ...rest, rows: await rows(rest.data) };
console.log(JSON.stringify(steps));
