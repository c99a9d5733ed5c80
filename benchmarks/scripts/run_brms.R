# Fit a task by brms: compile, then sample, timed apart.

script <- sub("--file=", "", grep("--file=", commandArgs(), value = TRUE))
source(file.path(dirname(script), "task.R"))
timed("import", suppressPackageStartupMessages(library(brms)))
data <- timed("data", read_data())

scales <- task$scales
positive <- sprintf("student_t(3, 0, %g)", scales$sd)
formula <- as.formula(task$formula)
grouped <- grepl("|", task$formula, fixed = TRUE)
series <- task$residual
if (!is.null(series)) {
  stopifnot(series$structure == "AR1")
  text <- sprintf(
    "%s + ar(time = %s, gr = %s, p = 1, cov = TRUE)", task$formula, series$time, series$within
  )
  formula <- bf(as.formula(text))
}
correlated <- any(grepl("\\([^1|][^|]*\\|", task$formula))
priors <- c(
  set_prior(sprintf("normal(%g, %g)", scales$intercept[1], scales$intercept[2]), class = "Intercept"),
  if (grouped) set_prior(positive, class = "sd"),
  if (!is.null(series)) set_prior("uniform(-1, 1)", class = "ar", lb = -1, ub = 1),
  if (length(attr(terms(lme4::nobars(as.formula(task$formula))), "term.labels")) > 0)
    set_prior(sprintf("normal(0, %g)", scales$coefficient), class = "b"),
  if (correlated) set_prior("lkj(2)", class = "cor"),
  if (task$family == "gaussian") set_prior(positive, class = "sigma"),
  if (task$family == "negative_binomial") set_prior("gamma(2, 0.1)", class = "shape")
)
family <- switch(task$family,
  gaussian = gaussian(), bernoulli = bernoulli(), poisson = poisson(),
  negative_binomial = negbinomial()
)

# chains = 0 writes and compiles the Stan program without sampling.
compiled <- timed("compile", suppressMessages(suppressWarnings(
  brm(formula, data, family = family, prior = priors, chains = 0, silent = 2, refresh = 0)
)))
fit <- timed("fit", suppressMessages(suppressWarnings(update(
  compiled,
  recompile = FALSE, chains = task$chains, cores = task$cores, seed = task$seed,
  iter = task$tune + task$draws, warmup = task$tune, refresh = 0, silent = 2
))))
timed("summary", if (isTRUE(task$summary)) summary(fit))

# The chains' processor time, as if they had never waited for a core: in favour of brms.
elapsed <- rstan::get_elapsed_time(fit$fit)
seconds$sample <- sum(elapsed) / min(task$cores, task$chains)

our_name <- function(name) {
  ours <- c(sigma = "sigma", shape = "alpha", "ar[1]" = "phi")
  if (name %in% names(ours)) return(ours[[name]])
  if (startsWith(name, "b_")) return(sprintf("beta[%s]", our_term(substring(name, 3))))
  parts <- strsplit(sub("^(sd|cor)_", "", name), "__")[[1]]
  kind <- sub("_.*", "", name)
  sprintf("%s_%s[%s]", kind, parts[1], paste(parts[-1], collapse = ","))
}

draws <- as.array(fit$fit)
names <- dimnames(draws)[[3]]
# Of an AR(1) brms has the sd of the innovations, and bayesmixed that of the residuals.
if (!is.null(series)) {
  draws[, , "sigma"] <- draws[, , "sigma"] / sqrt(1 - draws[, , "ar[1]"]^2)
}
kept <- grep("^(b_|sd_|cor_|sigma$|shape$|ar\\[1\\]$)", names)
writeBin(as.vector(draws[, , kept, drop = FALSE]), file.path(folder, "draws.bin"))
np <- nuts_params(fit, pars = "divergent__")
answer(
  c("brms", "rstan", "StanHeaders"),
  parameters = as.list(vapply(names[kept], our_name, "", USE.NAMES = FALSE)),
  chains = task$chains, divergences = sum(np$Value)
)
