-- The last key set whose keys a gateway uses: whoever revokes a key waits until nobody signs with it.

ALTER TABLE writers ADD COLUMN key_set BIGINT NOT NULL DEFAULT 0;
