"""What tests share: made data, fake servers, fixtures."""
