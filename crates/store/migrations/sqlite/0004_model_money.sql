-- Money beside the tokens of model budgets, in units of 10^-9 USD.
ALTER TABLE model_usage ADD COLUMN cost INTEGER NOT NULL DEFAULT 0 CHECK (cost >= 0);
ALTER TABLE model_usage ADD COLUMN cost_reserved INTEGER NOT NULL DEFAULT 0 CHECK (cost_reserved >= 0);
ALTER TABLE reservations ADD COLUMN cost INTEGER NOT NULL DEFAULT 0;
