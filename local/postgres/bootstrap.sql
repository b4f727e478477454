CREATE ROLE forebay LOGIN
CREATE ROLE forebay_read LOGIN
CREATE ROLE forebay_replication LOGIN REPLICATION
GRANT pg_read_all_stats TO forebay_replication
ALTER DEFAULT PRIVILEGES FOR ROLE forebay GRANT USAGE ON SCHEMAS TO forebay_read
ALTER DEFAULT PRIVILEGES FOR ROLE forebay GRANT SELECT ON TABLES TO forebay_read
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid,bytea), lo_open(oid,integer), lo_put(oid,bigint,bytea), lo_truncate(integer,integer), lo_truncate64(integer,bigint), lo_unlink(oid), lowrite(integer,bytea) FROM PUBLIC
REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean,text,text,boolean), pg_logical_emit_message(boolean,text,bytea,boolean) FROM PUBLIC
REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC
CREATE DATABASE forebay OWNER forebay
